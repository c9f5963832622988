"""Mutations of ONNX models field by field, over the descriptors of protobuf, from a seed."""

from __future__ import annotations

import random
import string
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_INTEGERS = [0, 1, 2, 3, 4, 7, 8, -1, -2, 16, 64, 99, 127, 255, 1024, 10**5, 10**6, 10**9]
_INTEGERS += [2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63)]
_FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, float("inf"), float("-inf"), float("nan")]
_TEXTS = ["", "x", "y", "a\nb", "\x1b[2J", "a\0b", "é", "-1", "0", "9" * 50, "N", "z" * 500, "../x"]
_OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas()})

_SIGNED = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
_UNSIGNED = (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64)
_REAL = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)


def mutated(model: onnx.ModelProto, dice: random.Random) -> bytes:
    """Return the bytes of a model of which a few fields are changed."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 6))):
        _change(dice.choice(_messages(changed, dice)), changed, dice)
    content = changed.SerializeToString()
    if dice.random() < 0.05:
        content = _damaged(content, dice)
    return content


def _messages(model: onnx.ModelProto, dice: random.Random) -> list[Message]:
    """Return messages in a model, of every kind about as many, so that none is drowned."""
    by_kind: dict[str, list[Message]] = {}
    waiting: list[Message] = [model]
    while waiting:
        message = waiting.pop()
        by_kind.setdefault(message.DESCRIPTOR.name, []).append(message)
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting += list(value) if _repeated(field) else [value]
    # Nodes and what they state are what most is built on.
    kinds = (
        sorted(by_kind)
        + [k for k in ("NodeProto", "AttributeProto", "TensorProto") if k in by_kind] * 3
    )
    return by_kind[dice.choice(kinds)]


def _repeated(field: FieldDescriptor) -> bool:
    # Before 6.31 protobuf has the label alone.
    if hasattr(field, "is_repeated"):
        return bool(field.is_repeated)
    return bool(field.label == field.LABEL_REPEATED)


def _change(message: Message, model: onnx.ModelProto, dice: random.Random) -> None:
    fields = list(message.DESCRIPTOR.fields)
    stated = [field for field, _ in message.ListFields()]
    field = dice.choice(stated if stated and dice.random() < 0.75 else fields)
    if field.message_type is not None:
        _change_messages(message, field, model, dice)
    elif _repeated(field):
        values = getattr(message, field.name)
        what = dice.random()
        if what < 0.2 and len(values):
            del values[dice.randrange(len(values))]
        elif what < 0.3:
            del values[:]
        elif what < 0.4 and len(values):
            values.extend([values[0]] * dice.choice((1, 2, 50, 2000)))
        elif what < 0.6 and len(values):
            values[dice.randrange(len(values))] = _value(field, model, dice)
        else:
            values.append(_value(field, model, dice))
    elif dice.random() < 0.15:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _value(field, model, dice))


def _change_messages(
    message: Message, field: FieldDescriptor, model: onnx.ModelProto, dice: random.Random
) -> None:
    if not _repeated(field):
        inner = getattr(message, field.name)
        if dice.random() < 0.4:
            message.ClearField(field.name)
        elif dice.random() < 0.5:
            inner.SetInParent()
        else:
            _from_elsewhere(inner, model, dice)
        return
    values = getattr(message, field.name)
    what = dice.random()
    if what < 0.25 and len(values):
        del values[dice.randrange(len(values))]
    elif what < 0.4 and len(values):
        values.add().CopyFrom(dice.choice(list(values)))
    elif what < 0.5 and len(values) > 1:
        a, b = dice.sample(range(len(values)), 2)
        kept = type(values[a])()
        kept.CopyFrom(values[a])
        values[a].CopyFrom(values[b])
        values[b].CopyFrom(kept)
    elif what < 0.65:
        values.add()
    else:
        _from_elsewhere(values.add(), model, dice)


def _from_elsewhere(inner: Message, model: onnx.ModelProto, dice: random.Random) -> None:
    """Fill a message with one of its kind from another place of the model."""
    found, waiting = [], [model]
    while waiting:
        message: Any = waiting.pop()
        if message.DESCRIPTOR is inner.DESCRIPTOR and message is not inner:
            found.append(message)
        for field, value in message.ListFields():
            if field.message_type is not None:
                waiting += list(value) if _repeated(field) else [value]
    if found:
        copied = type(dice.choice(found))()
        copied.CopyFrom(dice.choice(found))
        if copied.ByteSize() < 1 << 20:
            inner.CopyFrom(copied)


def _value(field: FieldDescriptor, model: onnx.ModelProto, dice: random.Random) -> Any:
    kind = field.cpp_type
    if kind in _SIGNED or kind in _UNSIGNED:
        bits = 32 if kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32) else 64
        number = dice.choice(_INTEGERS)
        if kind in _UNSIGNED:
            return number % (1 << bits)
        return (number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)
    if kind in _REAL:
        return dice.choice(_FLOATS)
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return dice.random() < 0.5
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return dice.choice([v.number for v in field.enum_type.values])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return dice.randbytes(dice.choice((0, 1, 4, 8, 31, 400)))
    return _text(field, model, dice)


def _text(field: FieldDescriptor, model: onnx.ModelProto, dice: random.Random) -> str:
    what = dice.random()
    if field.name == "op_type":
        return dice.choice(_OPERATORS)
    if what < 0.6 and field.name in ("input", "output", "name", "location"):
        names = [name for node in model.graph.node for name in (*node.input, *node.output)]
        return str(dice.choice(names)) if names else ""
    if what < 0.9:
        return dice.choice(_TEXTS)
    return "".join(dice.choices(string.printable, k=dice.randrange(20)))


def _damaged(content: bytes, dice: random.Random) -> bytes:
    """Return bytes of which some are changed, cut out or repeated."""
    altered = bytearray(content)
    for _ in range(dice.choice((1, 2, 8))):
        if not altered:
            break
        at = dice.randrange(len(altered))
        what = dice.random()
        if what < 0.6:
            altered[at] = dice.randrange(256)
        elif what < 0.8:
            del altered[at : at + dice.choice((1, 5, 100))]
        else:
            altered[at:at] = altered[at : at + dice.choice((1, 5, 100))]
    return bytes(altered)
