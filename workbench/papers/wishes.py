"""What somebody may want to do, and what of the library does it: the way from a wish to a function."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Wish:
    """A wish in words, the functions that grant it, and what to type where a command does.

    ``functions`` are ``room.module.name`` below ``workbench``, the one to begin with first.
    """

    want: str
    functions: tuple[str, ...]
    command: str = ""


WISHES = (
    Wish(
        want="see what every head does",
        functions=("heads.portrait.portrait",),
        command="workbench heads -m MODEL",
    ),
    Wish(
        want="find attention sinks of words, and calibrate them",
        functions=("edits.sinks.sink_shares", "edits.sinks.improving", "edits.kinds.Calibration"),
        command="workbench replicate attention-calibration -m MODEL",
    ),
    Wish(
        want="find sinks among patches, and give their attention to others",
        functions=(
            "heads.visual_sinks.sink_dimensions",
            "heads.visual_sinks.see_sinks",
            "edits.redistribute.Redistribute",
        ),
        command="workbench replicate visual-sinks -m MODEL",
    ),
    Wish(
        want="find heads that look up facts in the context",
        functions=("heads.retrieval.retrieval_scores",),
        command="workbench replicate retrieval-heads -m MODEL",
    ),
    Wish(
        want="see which heads depend on the picture",
        functions=("heads.divergence.divergence", "heads.existence.ask_at_noise"),
        command="workbench replicate vhd -m MODEL",
    ),
    Wish(
        want="steer heads: make them louder, shift them, train an offset",
        functions=(
            "edits.louder.Louder",
            "edits.iti.best_shift",
            "edits.lofit.localise",
            "edits.lofit.train_offsets",
        ),
        command="workbench replicate lofit -m MODEL",
    ),
    Wish(
        want="say what an attention pattern is worth: put another in its place",
        functions=("edits.substitute.Substitute",),
        command="workbench attention replace -m MODEL -t TASK --with mean",
    ),
    Wish(
        want="route tokens to some of the heads, and tune a model on so",
        functions=(
            "edits.route_heads.RouteHeads",
            "training.routed_heads.tune_heads",
            "edits.head_routing.load_balance",
        ),
        command="workbench edit make route-heads --set heads=a0.h0,a0.h1,a0.h2 --set active=1 -o EDIT",
    ),
    Wish(
        want="say what patterns are like: how concentrated, how alike over heads, how local",
        functions=("heads.pattern_shape.shape_of_patterns", "heads.indicators.entropy"),
        command="workbench replicate deconstructing -m MODEL",
    ),
    Wish(
        want="restrict what attention may see",
        functions=("edits.mask_kinds.Mask", "masks.registry.mask"),
        command="workbench attention mask -m MODEL -t TASK --mask window:16",
    ),
    Wish(
        want="see where regions of a picture are routed, or let blocks look at a halo",
        functions=(
            "masks.region_gathers.routed_attention",
            "masks.region_gathers.halo_attention",
            "training.mixers.region_looks.object_lifts",
        ),
        command="workbench replicate bi-level-routing",
    ),
    Wish(
        want="teach a frozen tower something new by soft prompts, and say which token sees which",
        functions=(
            "training.prompt_arms.train_prompts",
            "training.prompted_tower.PromptPlan",
            "training.prompted_tower.reached_by",
        ),
        command="workbench replicate coordinated-prompts",
    ),
    Wish(
        want="make the answer independent of the order of documents",
        functions=("edits.pine.moved_alone", "edits.documents.in_every_order"),
        command="workbench replicate pine -m MODEL",
    ),
    Wish(
        want="localise: where a picture is looked at, beside where the object is",
        functions=(
            "heads.localisation.locate",
            "heads.asked_maps.relative_attention",
            "heads.asked_maps.gradient_attention",
            "heads.weighted_rollout.weighted_rollout",
            "heads.pointing_accuracy.pointing_accuracy",
        ),
        command="workbench replicate where-to-look -m MODEL",
    ),
    Wish(
        want="contrast two maps: what this question adds to a general one",
        functions=("heads.contrastive_map.contrastive_map", "heads.contrastive_map.contrast_region"),
        command="workbench replicate carve -m MODEL",
    ),
    Wish(
        want="match patches with words",
        functions=("heads.image_text.similarity_maps", "heads.correlation_attention.correlation_attention"),
        command="workbench replicate correlation-attention -m MODEL",
    ),
    Wish(
        want="draw attention to what is like a reference, such as an object of another picture",
        functions=(
            "edits.reference_bias.BiasTowards",
            "edits.biased_scores.span_reference",
            "edits.reference_scenes.fit_mixture",
        ),
        command="workbench replicate reference-bias -m MODEL",
    ),
    Wish(
        want="say in which order parts of a picture would be looked at, for a caption or any score",
        functions=("heads.greedy_reveal.greedy_reveal", "heads.greedy_reveal.caption_score"),
        command="workbench replicate greedy-reveal -m MODEL",
    ),
    Wish(
        want="let a model read a part of its picture in finer resolution, or a part of its text once more",
        functions=(
            "edits.magnify.fine_patches",
            "edits.magnify.magnified",
            "edits.magnify.attended_chunks",
            "edits.magnify.with_chunks_again",
        ),
        command="workbench replicate scene-magnifier -m MODEL",
    ),
    Wish(
        want="say what a part of a picture gives to every patch, and point by it",
        functions=("heads.span_to_all.span_to_all", "heads.span_to_all.follow"),
        command="workbench replicate interaction-features -m MODEL",
    ),
    Wish(
        want="predict groups of numbers (units of another model, behaviour) by queries that look for what they follow",
        functions=(
            "training.routed_encoder.fit_encoders",
            "training.routed_encoder.fit_ridge",
            "training.routed_encoder.explained",
        ),
        command="workbench replicate brain-encoder -m MODEL",
    ),
    Wish(
        want="compare maps with a map of importance, or train with one as guidance",
        functions=("heads.map_agreement.map_agreement", "training.focus_guidance.focus_loss"),
        command="workbench replicate focus-clip -m MODEL",
    ),
    Wish(
        want="see what a question changes in the patches of a picture",
        functions=("heads.prompt_saliency.prompt_conditioned_saliency", "training.prompted_reader.readers"),
        command="workbench replicate prompt-focus -m MODEL",
    ),
    Wish(
        want="probe what patches know",
        functions=("heads.attentive_probe.fit_probe", "heads.attentive_probe.EfficientProbe"),
        command="workbench replicate efficient-probing -m MODEL",
    ),
    Wish(
        want="train a head that points",
        functions=("heads.pointing_head.fit_pointing", "heads.gaussian_target.gaussian_localisation"),
        command="workbench replicate suppress-and-peak -m MODEL",
    ),
    Wish(
        want="find where a figure's gaze ends, or score a mask and a heat map against a region",
        functions=(
            "training.gaze_following.GazeReader",
            "heads.region_overlap.dice",
            "heads.region_overlap.map_areas",
            "heads.localisation.mass_inside",
        ),
        command="workbench replicate mass-in-region -m MODEL",
    ),
    Wish(
        want="read where a head looks step by step, and compare two scanpaths",
        functions=(
            "heads.scanpath.scanpath",
            "heads.scanpath.scanpath_distance",
            "training.search_decoder.ScanpathDecoder",
        ),
        command="workbench replicate scanpath -m MODEL",
    ),
    Wish(
        want="see how quickly a model finds A among B, and whether that is so for B among A",
        functions=(
            "heads.visual_search.search_steps",
            "heads.visual_search.full_displays",
            "training.skewed_shapes.train_skewed",
        ),
        command="workbench replicate search-asymmetry -m MODEL",
    ),
    Wish(
        want="train a policy by reward alone, or compare a chosen region with where a model looks",
        functions=(
            "training.region_policy.reinforce",
            "training.region_policy.play",
            "evaluate.focus_agreement.focus_agreement",
        ),
        command="workbench replicate intention-focus -m MODEL",
    ),
    Wish(
        want="teach a model new answers in adapters alone, such as coordinates as words",
        functions=(
            "edits.all_linear.AllLinear",
            "training.coordinate_answers.teach",
            "training.coordinate_answers.self_made",
        ),
        command="workbench replicate pointing -m MODEL",
    ),
    Wish(
        want="let what is seen pass as a few codes, and probe what they keep and drop",
        functions=(
            "training.codebook.Codebook",
            "training.codebook.usage_entropy",
            "training.codebook.probe_said",
        ),
        command="workbench replicate codebook-bottleneck -m MODEL",
    ),
    Wish(
        want="say which heads or channels are active for a class, gate by it, find an action in time",
        functions=(
            "heads.class_importance.class_importance",
            "training.class_gates.ClassGate",
            "heads.segments.best_segment",
        ),
        command="workbench replicate class-semantics -m MODEL",
    ),
    Wish(
        want="prune heads of a tower, and group their patterns",
        functions=("heads.prune_metrics.prune_metrics", "heads.pattern_space.pattern_space"),
        command="workbench replicate vit-heads -m MODEL",
    ),
    Wish(
        want="measure how two parts act together",
        functions=("evaluate.interaction.interaction",),
        command="workbench replicate interaction -m MODEL",
    ),
    Wish(
        want="trace relevance back to tokens or patches",
        functions=(
            "evaluate.salient.token_relevance",
            "evaluate.pixel_relevance.pixel_relevance",
            "evaluate.salient.salient_relevance",
        ),
        command="workbench replicate relevance -m MODEL",
    ),
    Wish(
        want="put a vector in the place of a token, such as what a probe says",
        functions=("heads.listener_token.told_after", "heads.listener_token.fit_voice_probe"),
        command="workbench replicate listener-attention -m MODEL",
    ),
    Wish(
        want="compare whole pictures with phrases, and say when something is passed",
        functions=("heads.attention_spots.spot_similarities", "heads.attention_spots.falls_at"),
        command="workbench replicate attention-spots",
    ),
    Wish(
        want="see where a picture goes in a model: tower, connector, image tokens",
        functions=("model.multimodal_layout.multimodal_layout",),
        command="workbench model show MODEL",
    ),
    Wish(
        want="train a mask: learn which edges or parts a task needs",
        functions=(
            "methods.top_k_masks.top_k_masks",
            "methods.edge_pruning.edge_pruning",
            "methods.node_pruning.node_pruning",
            "methods.subnetwork_probing.subnetwork_probing",
        ),
        command="workbench discover -m MODEL -t TASK --method top-k-masks",
    ),
    Wish(
        want="train layers with another attention side by side",
        functions=("training.mixers.comparison.train",),
        command="python -m workbench.training.mixers NAME",
    ),
    Wish(
        want="see where a painter looks for a word, and move or change an object by it",
        functions=(
            "heads.word_maps.word_maps",
            "edits.guided_state.GuidedState",
            "edits.word_looks.WordLooks",
            "edits.flow_edit.flow_edit",
        ),
        command="workbench paint CAPTION --edit EDIT",
    ),
    Wish(
        want="find a concept in a picture by attention, and learn a new word for it",
        functions=("heads.concept_mask.concept_map", "training.new_words.learn_words"),
        command="workbench replicate attencraft -m MODEL",
    ),
    Wish(
        want="keep two subjects of one picture apart, or let a picture use a reference",
        functions=("edits.isolation.isolate", "edits.isolation.ReferenceLooks"),
        command="workbench replicate isolation-reposition -m MODEL",
    ),
    Wish(
        want="say how differently two runs or streams look at the same keys",
        functions=("heads.map_consistency.map_consistency",),
        command="workbench replicate joint-streams",
    ),
    Wish(
        want="draw a word's attention map to a mask while training",
        functions=("training.map_alignment.map_alignment", "training.target_tokens.train_targets"),
        command="workbench replicate target-aware",
    ),
)
