"""What is generated from the protos is fresh."""

from pathlib import Path

from tests.generate import ROOT, generate


def test_the_generated_code_is_what_the_protos_give(tmp_path: Path) -> None:
    generate(tmp_path)
    made = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.py*")}
    assert made
    folders = {Path(name).parent for name in made}
    kept = {
        str(path.relative_to(ROOT)): path.read_text()
        for folder in folders
        for path in (ROOT / folder).glob("*.py*")
        if path.suffix in (".py", ".pyi")
    }
    assert kept.keys() == made.keys(), "run `make protos`"
    assert [name for name in made if made[name] != kept[name]] == [], "run `make protos`"
