"""A map that shares structure is still a map."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raft.pmap import PMap

KEYS = st.one_of(st.integers(0, 600), st.text(max_size=3), st.binary(max_size=3))


@given(st.lists(st.tuples(KEYS, st.integers() | st.none()), max_size=80))
def test_it_behaves_like_a_dict_and_old_versions_stay(
    steps: list[tuple[int | str | bytes, int | None]],
) -> None:
    now: PMap[int | str | bytes, int] = PMap()
    model: dict[int | str | bytes, int] = {}
    history = []
    for key, value in steps:
        history.append((now, dict(model)))
        if value is not None:
            now, model[key] = now.set(key, value), value
        elif key in model:
            now = now.remove(key)
            del model[key]
        assert (dict(now), len(now)) == (model, len(model))
        assert (key in now) == (key in model)
        assert list(now.values()) == [now[key] for key in now]
        assert list(now.items()) == [(key, now[key]) for key in now]
    for old, was in history:
        assert dict(old) == was
        changed = now.changed_since(old)
        assert len(changed) == len(set(changed))
        assert set(changed) >= {key for key in {**was, **model} if was.get(key) != model.get(key)}
        assert all(was.get(key) is not model.get(key) for key in changed)
    assert PMap(model.items()) == now


def test_what_is_not_there_is_a_key_error() -> None:
    empty: PMap[str, int] = PMap()
    with pytest.raises(KeyError):
        empty["a"]
    with pytest.raises(KeyError):
        empty.remove("a")
    assert object() not in empty
    assert empty.get("a") is None
    assert repr(empty.set("a", 1)) == "PMap({'a': 1})"
