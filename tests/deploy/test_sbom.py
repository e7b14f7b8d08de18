"""Licences of a bill of materials, and what an audit is worth that could not be made."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sbom() -> ModuleType:
    spec = spec_from_file_location("sbom", ROOT / "deploy" / "sbom.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_component_is_listed_with_its_licences(sbom: ModuleType) -> None:
    components = [
        {"name": "b", "version": "2", "licenses": [{"license": {"id": "MIT"}}, {"license": {"name": "also BSD"}}]},
        {"name": "A", "version": "1", "licenses": [{"expression": "MIT OR Apache-2.0"}]},
        {"name": "c", "version": "3"},
    ]
    assert list(sbom.licences({"components": components})) == [
        ("A", "1", "MIT OR Apache-2.0"),
        ("b", "2", "MIT; also BSD"),
        ("c", "3", "unknown"),
    ]


@pytest.mark.parametrize(
    ("code", "strict", "expected"),
    [(0, False, 0), (0, True, 0), (1, False, 1), (1, True, 1), (2, False, 0), (2, True, 1)],
)
def test_an_audit_that_was_not_made_says_so_and_fails_where_that_is_asked(
    sbom: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: int,
    strict: bool,
    expected: int,
) -> None:
    """uv ends with 1 where it has found something, and with 2 where it could not ask."""
    script = tmp_path / "uv.py"
    script.write_text(
        "import pathlib, sys\n"
        "pins = pathlib.Path(sys.argv[sys.argv.index('--script') + 1]).read_text()\n"
        "assert 'numpy==' in pins and '--hash' not in pins, pins\n"
        f"print('what was said: parsing failed'); sys.exit({code})\n"
    )
    monkeypatch.setattr(sbom, "UV", script)
    assert sbom.audit(strict=strict) == expected
    shown = capsys.readouterr().out
    assert "what was said" in shown
    assert ("NOT MADE" in shown) is (code == 2)
