"""docs/kafka-api.md must say what the table says."""

import pytest

from broker.kafka_api.apis import APIS
from broker.kafka_api.docs import BEGIN, END, PAGE, generated, page_with


def test_the_page_is_what_the_table_says() -> None:
    page = PAGE.read_text()
    assert page == page_with(page, generated()), "run: python -m broker.kafka_api.docs"


def test_the_page_of_clients_lists_the_same_versions() -> None:
    rows = (PAGE.parent / "kafka-compat.md").read_text().split("| key | API |")[1].splitlines()[2:]
    found = [tuple(cell.strip() for cell in row.split("|")[1:4]) for row in rows]
    table = [(str(api.key), api.name, f"{api.served[0]}-{api.served[1]}") for api in APIS]
    assert found == table, "run: make compat-page"


def test_every_api_has_a_section_with_all_parts() -> None:
    text = generated()
    for api in APIS:
        section = text.split(f"## {api.name}\n")[1].split("\n## ")[0]
        for heading in ("**Behaviour**", "**Versions**", "**Not here**"):
            assert heading in section, f"{api.name} says nothing about {heading}"


def test_every_handler_names_the_versions_of_the_table() -> None:
    for api in APIS:
        title = (api.handler.__doc__ or "").splitlines()[0]
        assert title == f"{api.name}, v{api.served[0]}-v{api.served[1]}."


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="substring not found"):
        page_with("# a page", "part")
    assert page_with(f"a{BEGIN}old{END}b", "new") == f"a{BEGIN}\n\nnew\n\n{END}b"
