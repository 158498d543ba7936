"""One kind of file that we write: its format and version, a typed model of its content, a digest over it.

Every file of ours is a JSON document, or holds one in its header. The document has the keys ``format``,
``version`` and ``digest``, then the content, which a `Part` describes. A file that holds more than its document
(columns of a table, tensors) lists each block with type, shape and SHA-256 under ``blocks``, so that one digest
covers all of it. ``docs/formats.md`` shows how to add a kind.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec

from workbench.core.atomic import write_atomic
from workbench.core.digest import DIGEST, FileBlock, document_digest
from workbench.core.errors import ChangedFileWarning, RunError, WorkbenchError
from workbench.core.strict_json import dump, kind, parse, plain, read_text
from workbench.core.typed import Part, Sha256, typed

VERSION = 2
BLOCKS = "blocks"
Content = TypeVar("Content", bound=Part)
_HEADS = ("format", "version", DIGEST, BLOCKS)


State = Literal["as written", "changed", "no digest"]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Whether a document is as it was written.

    Attributes:
        where: The file it was read from.
        version: Of its format; version 1 has no digest.
        says: The digest that the document gives; empty in version 1.
        found: The digest of its content as it is now; empty in version 1.
        blocks: Columns or tensors that are not those that the document lists.
    """

    where: str
    version: int
    says: str = ""
    found: str = ""
    blocks: tuple[str, ...] = ()

    @property
    def state(self) -> State:
        """Whether the document is what it says it was."""
        if not self.says:
            return "no digest"
        return "changed" if self.says != self.found or self.blocks else "as written"

    @property
    def note(self) -> str:
        """What a reader should know of it, in one sentence; empty for a file that is as it was written."""
        if self.state == "no digest":
            return f"{self.where} is of version {self.version}, which has no digest: a change of it cannot be seen"
        if self.state == "as written":
            return ""
        if self.says != self.found:
            what = f"its digest says {self.says[:16]}, its content has {self.found[:16]}"
        else:
            what = f"{', '.join(self.blocks[:4])} has other values than its digest says"
        return f"{self.where} was changed since it was written: {what}"

    @property
    def notes(self) -> tuple[str, ...]:
        """The note as what results carry: none, or one."""
        return (self.note,) if self.note else ()


@dataclass(frozen=True, kw_only=True)
class Opened(Generic[Content]):
    """A file that was read: its content, whether it is as written, and its columns or tensors, if it has some."""

    content: Content
    origin: Origin
    payload: Any = None


def _outside() -> int:
    """How many calls up the first line is that is not the workbench's own, for warnings to point at."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("workbench."):
        frame, level = frame.f_back, level + 1
    return level


Raw = tuple[object, Mapping[str, FileBlock] | None, Any]  # document, blocks as found, columns or tensors


@dataclass(frozen=True, kw_only=True)
class FileKind(Generic[Content]):
    """How files of one format are written, checked and read.

    Attributes:
        format: The value of the key ``format``, for example ``circuit-workbench/circuit``.
        content: The model of everything but ``format``, ``version``, ``digest`` and ``blocks``.
        what: What such a file is called in messages: ``a circuit file``.
        error: What is raised for a file that cannot be read.
        by_hand: People edit such files: one that was changed is read with a `ChangedFileWarning`. Any other
            kind of file that was changed is refused.
        has_blocks: Columns or tensors lie beside the document.
        again: What to type to get a good one; ``FILE`` and ``FOLDER`` in it become those at hand.
        raw: Reads document, blocks and payload of a file that is not plain JSON.
        hint: A hint for a document of another format, for example how to import it.
        first: Makes of the content of version 1 what version 2 has.
    """

    format: str
    content: type[Content]
    what: str
    error: type[WorkbenchError] = RunError
    by_hand: bool = False
    has_blocks: bool = False
    again: str = ""
    raw: Callable[[Path], Raw] | None = None
    hint: Callable[[Mapping[str, Any]], str] | None = None
    first: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None

    def document(
        self, content: Mapping[str, Any], *, blocks: Mapping[str, FileBlock] | None = None
    ) -> dict[str, Any]:
        """Return the document that is written for a content, digest included; what could not be read is never
        written.

        Raises:
            WorkbenchError: if the content does not fit the model, or holds what JSON cannot.
        """
        rest = plain({k: v for k, v in content.items() if k not in _HEADS}, self.what)
        typed(rest, self.content, where=self.what, error=self.error)
        found = {BLOCKS: msgspec.to_builtins(dict(blocks))} if blocks is not None else {}
        whole = {"format": self.format, "version": VERSION, **found, **rest}
        return {"format": self.format, "version": VERSION, DIGEST: document_digest(whole), **found, **rest}

    def text(self, content: Mapping[str, Any], *, indent: int | None = 1) -> str:
        """Return a JSON file's text."""
        return dump(self.document(content), where=self.what, indent=indent)

    def save(
        self, content: Mapping[str, Any], path: str | os.PathLike[str], *, indent: int | None = 1
    ) -> Path:
        """Write a JSON file, whole or not at all."""
        return write_atomic(path, self.text(content, indent=indent))

    def load(self, path: str | os.PathLike[str]) -> Opened[Content]:
        """Read a file, check every field, and say it if the file was changed since it was written.

        Raises:
            WorkbenchError: of the kind's own type, if it cannot be read, or was changed and is not of a kind
                that people edit.
        """
        opened = self.open(path)
        self.say(opened.origin)
        return opened

    def open(self, path: str | os.PathLike[str]) -> Opened[Content]:
        """Read a file and check every field; whether it was changed is in its ``origin`` and nowhere else."""
        document, blocks, payload = self._read(path)
        content, origin = self.check(document, where=str(path), blocks=blocks)
        return Opened(content=content, origin=origin, payload=payload)

    def is_changed(self, path: str | os.PathLike[str]) -> bool:
        """Say whether a file is not as it was written, also where its content cannot be read for that very reason."""
        try:
            document, blocks, _ = self._read(path)
            return isinstance(document, dict) and (
                self.origin(document, where=str(path), blocks=blocks).state == "changed"
            )
        except WorkbenchError:  # cut off, of another format: nothing says what it was
            return False

    def _read(self, path: str | os.PathLike[str]) -> Raw:
        if self.raw:
            return self.raw(Path(path))
        text = read_text(path, error=self.error)
        return parse(text, where=str(path), error=self.error), None, None

    def check(
        self, document: object, *, where: str, blocks: Mapping[str, FileBlock] | None = None
    ) -> tuple[Content, Origin]:
        """Return the content of a document, every field checked, and whether it is as it was written.

        Args:
            blocks: The columns or tensors that lie beside the document.
        """
        if not isinstance(document, dict):
            raise self.error(
                f"{where} is {kind(document)}; expected an object",
                hint="name a file that workbench wrote, or write it again",
            )
        origin = self.origin(document, where=where, blocks=blocks)
        heads = _HEADS if origin.version >= VERSION else _HEADS[:2]
        rest = {name: value for name, value in document.items() if name not in heads}
        if self.first and origin.version < VERSION:
            known = {name: value for name, value in rest.items() if name != DIGEST}
            # version 1 has no digest: one that is there is an unknown key
            rest = {**self.first(known), **{n: v for n, v in rest.items() if n == DIGEST}}
        return typed(rest, self.content, where=where, error=self.error), origin

    def origin(
        self, document: Mapping[str, Any], *, where: str, blocks: Mapping[str, FileBlock] | None = None
    ) -> Origin:
        """Say whether a document is as it was written, whatever its content says.

        Raises:
            WorkbenchError: if it is of another format or version, or lacks its digest.
        """
        version = self._version(document, where)
        if version < VERSION and DIGEST in document:
            raise self.error(
                f"{where} says version {version} and has a digest, which no file of that version has",
                hint=self.advice(where),
            )
        if version < VERSION:
            return Origin(where=where, version=version)
        if DIGEST not in document:
            raise self.error(f"{where} lacks 'digest', which version {version} has", hint=self.advice(where))
        says = typed(document[DIGEST], Sha256, where=f"{where}: digest", error=self.error)
        listed = self._blocks(document, where)
        other = {n for n in {*listed, *(blocks or {})} if listed.get(n) != (blocks or {}).get(n)}
        found = document_digest(document)
        return Origin(where=where, version=version, says=says, found=found, blocks=tuple(sorted(other)))

    def _version(self, document: Mapping[str, Any], where: str) -> int:
        found, version = document.get("format"), document.get("version")
        if found != self.format:
            said = (
                f"its format is {found!r:.80}, not"
                if "format" in document
                else "it has no 'format'; expected"
            )
            hint = (self.hint and self.hint(document)) or f"name a file of {self.what}"
            raise self.error(f"{where} is not {self.what}: {said} {self.format!r}", hint=hint)
        if type(version) is not int or not 1 <= version <= VERSION:
            newer = type(version) is int and version > VERSION
            raise self.error(
                f"{where} has version {version!r:.80}; this workbench reads versions 1 to {VERSION}",
                hint="a newer workbench wrote it: pip install --upgrade circuit-workbench"
                if newer
                else "write it again, or restore a copy that was not changed",
            )
        return version

    def _blocks(self, document: Mapping[str, Any], where: str) -> dict[str, FileBlock]:
        if not self.has_blocks:
            return {}
        if BLOCKS not in document:
            raise self.error(f"{where} lacks {BLOCKS!r}", hint=self.advice(where))
        return typed(document[BLOCKS], dict[str, FileBlock], where=f"{where}: {BLOCKS}", error=self.error)

    def say(self, origin: Origin) -> None:
        """Refuse a changed file, or warn of it where people edit such files.

        Raises:
            WorkbenchError: of the kind's own type.
        """
        if origin.state != "changed":
            return
        if self.by_hand:
            warnings.warn(origin.note, ChangedFileWarning, stacklevel=_outside())
        else:
            raise self.error(origin.note, hint=self.advice(origin.where))

    def advice(self, where: str) -> str:
        """Say what to do about a file that is not good."""
        said = self.again or "restore the file as it was written, or make it again"
        return said.replace("FILE", where).replace("FOLDER", str(Path(where).parent))

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of such a document, generated from the model."""
        whole = msgspec.json.schema(self.content)
        defs = whole.get("$defs", {})
        for part in defs.values():  # examples in Python are for readers of the code
            if "description" in part:
                part["description"] = part["description"].partition("\n\nExample:")[0]
        root = dict(defs.pop(self.content.__name__))
        heads: dict[str, Any] = {
            "format": {"const": self.format},
            "version": {"enum": [1, VERSION]},
            DIGEST: {
                **msgspec.json.schema(Sha256),
                "description": "SHA-256 over everything else in the file",
            },
        }
        required = ["format", "version"]
        if self.has_blocks:
            blocks = msgspec.json.schema(FileBlock)
            defs[FileBlock.__name__] = blocks["$defs"][FileBlock.__name__]
            heads[BLOCKS] = {
                "type": "object",
                "description": "what lies beside the document, by name",
                "additionalProperties": {"$ref": f"#/$defs/{FileBlock.__name__}"},
            }
        later = [name for name in (DIGEST, BLOCKS) if name in heads]
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **root,
            "title": self.format,
            "properties": {**heads, **root["properties"]},
            "required": [*required, *root.get("required", ())],
            "if": {"properties": {"version": {"const": VERSION}}},
            "then": {"required": later},
            **({"$defs": defs} if defs else {}),
        }


__all__ = ["BLOCKS", "VERSION", "FileKind", "Opened", "Origin"]
