"""What must be true after a cell of a notebook has run; the notebooks teach, the tests assert."""

CLAIMS: dict[str, dict[str, tuple[str, ...]]] = {
    "01_ioi_end_to_end": {
        "cell-05": ("test.clean.mean() > 0 > test.corrupted.mean()",),
        "cell-09": ('restored["r0@end"] < 0.01 * restored.gap.mean()',),
        "cell-17": ("again.edges == found.circuit.edges",),
        "cell-19": (
            "abs(found.curve.values[-1] - 1) < 1e-3",
            "share > 0.5 and share > by_chance + 0.3",
        ),
    },
    "02_your_model_and_pairs": {
        "cell-09": ('wb.check_pairs("capitals.jsonl", reading=wb.reading_of(MODEL)).passes',),
        "cell-10": ("runs.n_pairs == 56 and (runs.clean > 0).all()",),
        "cell-12": ('abs(restored["r0@country"] / restored.gap.mean() - 1) < 1e-3',),
        "cell-14": ("abs(together.patched.mean()) < 1e-3",),
        "cell-18": (
            "abs(found.curve.values[-1] - 1) < 1e-3",
            "kept > by_chance",
        ),
    },
    "03_circuits_read_compare_export": {
        "cell-04": ('"torch" not in sys.modules and "transformers" not in sys.modules',),
        "cell-10": ('overlap["edges"].jaccard == len(here & there) / len(here | there)',),
        "cell-13": ("len(cut.prune()) <= len(cut) < len(small) <= 12",),
        "cell-15": (
            "graph.number_of_edges() == len(small)",
            'len(page["links"]) == len(small)',
        ),
        "cell-17": (
            "edges.shared > edges.expected and edges.p_value < 0.01",
            '"torch" not in sys.modules',
        ),
    },
    "04_which_method_finds_the_true_circuit": {
        "cell-05": ("abs(won - found.auroc) < 1e-12",),
        "cell-07": ('auroc.loc["exact"].min() > auroc.loc["random"].max()',),
        "cell-11": ('table.loc["eap-ig", "CMD"] < table.loc["random", "CMD"]',),
        "cell-13": ('"eap-ig" in right and "random" in blind',),
    },
    "05_judging_a_circuit": {
        "cell-15": ('again == verdicts.verdicts == wb.load_evaluation("judged").verdicts',),
    },
    "06_portraits_of_heads": {
        "cell-13": ("set(writing) < set(looking) and set(writing) < set(needed)",),
    },
    "07_one_paper_another_model": {
        "c09": ('side_by_side(retrieval=base, random=wrong).loc[lost].tolist() == ["holds", "fails"]',),
    },
    "08_hooks_edits_and_your_metric": {
        "cell-03": ("mine.clean.mean() > 0.9 > 0.1 > mine.corrupted.mean()",),
        "cell-06": ("effect > 0.3",),
        "cell-10": (
            "without < runs.clean.mean() - 5",
            "inside.clean.mean() == runs.clean.mean()",
            "wb.identity(model).standing == ()",
        ),
        "cell-12": ("told.title.endswith('n=40') and '1 hook of yours at blocks.0.mlp' in told.title",),
    },
    "09_which_heads_find_the_asked_object": {
        "cell-03": ("look.asked is not None and look.said[0][0].strip() == pair.correct[0].strip()",),
        "cell-09": (
            "len(finders) >= 2 and all(head.startswith('a0.') for head in finders)",
            "finding.loc[finders, 'effect, logits'].min() > 4 * finding.loc[others, 'effect, logits'].median()",
        ),
        "cell-11": (
            "together.mean[0] > 0.7 * gap",
            "all(back[f'{head}@end'] < 0.1 * back[f'{head}@colour'] for head in finders)",
        ),
        "cell-13": (
            "seen[most] > 0.9 and look.name_of(most) in pair.clean and look.map_of(reader).sum() < 0.05",
        ),
        "cell-17": ("across.circuit.shape.tower is not None and across.faithfulness.faithfulness > 0.4",),
        "cell-19": (
            "share > 0.5 and share > by_chance + 0.3",
            "set(in_circuit) == {*finders, reader}",
        ),
    },
    "10_what_an_attention_pattern_is_worth": {
        "cell-03": ("all(row['difference'] == 0 for row in own.values())",),
        "cell-07": (
            "all(few[name, 8]['top-k'] > few[name, 8]['random'] + 5 for name in ('zoo:ioi', 'zoo:kv'))",
            "few['zoo:stdlib', 8]['top-k'] < few['zoo:stdlib', 8]['random']",
        ),
        "cell-13": ("share['zoo:stdlib'] < 0.3 and share['zoo:ioi'] > 0.8 and share['zoo:kv'] > 0.8",),
    },
    "11_one_mask_from_picture_to_training": {
        "cell-05": (
            "reach['powers of two'][-1] == 57 and reach['window'] == [7, 13, 19, 25]",
            "gaps['powers of two'] == [3, 7, 15, 31]",
        ),
        "cell-07": ("all(row['difference'] > 0 for row in cost.rows)",),
        "cell-09": ("'query 0 sees key 1' in refusal",),
        "cell-11": ("learned.loc[50, 'powers of two'] > learned.loc[50, 'window'] + 0.5",),
    },
    "12_move_an_object_by_its_attention": {
        "cell-05": ("fit.own.max() > 0.5 > 0.3 > fit.other.max()",),
        "cell-09": (
            "results.loc['guided above', 'first in the upper half'] > 0.8",
            "results.loc['moved at random', 'first in the upper half'] < 0.6",
            "results['binding'].min() > 0.8",
        ),
    },
}
