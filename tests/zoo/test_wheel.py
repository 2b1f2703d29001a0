from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_wheel_carries_the_zoo_and_works_from_any_folder(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("mz-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        members = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    wanted = [f"mz/zoo/{file.relative_to(ROOT)}" for file in (ROOT / "cfg").rglob("*.yaml")]
    for folder in ("zoo/bundled", "report/page"):
        files = (ROOT / "src" / "mz" / folder).rglob("*")
        wanted += [str(file.relative_to(ROOT / "src")) for file in files if file.is_file()]
    assert not [name for name in wanted if name not in members]
    code = (
        "import mz.zoo, mz.data;"
        f"assert mz.zoo.__file__.startswith({str(tmp_path)!r});"
        "configs = [mz.zoo.load_network(name) for name in mz.zoo.network_names('*_fashion')];"
        "print(len(configs), [mz.zoo.model_path(config).suffix for config in configs],"
        " len(mz.data.open_evaluation(configs[0])), mz.zoo.hw_arch_names())"
    )
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); {code}"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, env={})
    archs = "['cpu', 'mcu', 'mz8', 'mz8_layerwise', 'mz8l']"
    assert done.stdout.strip() == f"3 ['.onnx', '.onnx', '.onnx'] 10000 {archs}"
