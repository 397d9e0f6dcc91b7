"""install.py: the report, the fixes, the models folder and the exit codes; run by file, as ComfyUI-Manager does."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from codeformer_core.commands import weights as command

ROOT = Path(__file__).parents[2]


@pytest.fixture
def install():
    spec = importlib.util.spec_from_file_location("install_under_test", ROOT / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Makes an importable module with the given source."""

    def make(name: str, source: str) -> str:
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        return name

    return make


def test_it_runs_from_anywhere_in_a_folder_with_a_hyphen(tmp_path):
    pack = tmp_path / "custom_nodes" / "ComfyUI-CodeFormer"
    pack.parent.mkdir()
    pack.symlink_to(ROOT, target_is_directory=True)
    environment = os.environ | {"CODEFORMER_MODELS": str(tmp_path / "my models"), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(pack / "install.py")], cwd="/", env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("Python 3", "torch 2", "numpy", "pillow", "safetensors", "opencv", "facexlib", "--models codeformer"):
        assert part in done.stdout
    assert "missing" not in done.stdout and "codeformer: not installed" in done.stdout
    assert not (tmp_path / "my models").exists()


def test_an_old_python_is_named_with_the_fix_and_ends_the_checks(install, monkeypatch, capsys):
    old = install.check_python((3, 9, 7))
    monkeypatch.setattr(install, "check_python", lambda version: old)
    monkeypatch.setattr(install, "check_packages", lambda: pytest.fail("checked on with a Python that is too old"))
    assert install.main([]) == 1
    assert "Python 3.9.7 is too old. Run ComfyUI with Python 3.10" in capsys.readouterr().out


def test_missing_and_broken_packages_and_their_fixes(install, package):
    finding = install.check_import("codeformer_no_such_module", "no-such", "pip install no-such")
    assert finding == install.Finding("missing", "no-such. pip install no-such")
    package("needs_more", "import codeformer_no_such_module")
    finding = install.check_import("needs_more", "more", "fix it")
    assert finding.state == "missing" and "codeformer_no_such_module, which more needs" in finding.text
    package("broken_one", "raise AttributeError('module numpy\\n has no attribute x')")
    finding = install.check_import("broken_one", "broken", "fix it")
    assert finding.state == "broken" and "module numpy has no attribute x" in finding.text and "fix it" in finding.text


def test_something_required_that_is_missing_gives_exit_code_1(install, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert install.main([]) == 1
    out = capsys.readouterr().out
    assert "missing safetensors. Run: " in out and "-m pip install safetensors" in out and "Not usable yet" in out


def test_without_facexlib_it_is_usable_and_says_what_does_not_work(install, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "facexlib", None)
    for name in [name for name in sys.modules if name.startswith("facexlib.")]:
        monkeypatch.delitem(sys.modules, name)
    assert install.main([]) == 0
    out = capsys.readouterr().out
    assert "lacking facexlib. Run: " in out and "pip install facexlib" in out and "yunet" in out


def test_any_opencv_will_do_and_a_second_one_is_warned_of(install, monkeypatch):
    single = install.check_opencv(["opencv-contrib-python-headless 4.9"])
    assert [finding.state for finding in single] == ["ok"]
    several = install.check_opencv(["opencv-python 5.0", "opencv-python-headless 4.9"])
    assert [finding.state for finding in several] == ["ok", "warning"]
    assert "pip uninstall -y opencv-python opencv-python-headless, then pip install opencv-python" in several[1].text
    monkeypatch.setitem(sys.modules, "cv2", None)
    (missing,) = install.check_opencv([])
    assert missing.state == "missing" and missing.text.endswith("-m pip install opencv-python")
    # A flavour is there but does not import: that flavour is repaired, no other one is put beside it.
    (broken,) = install.check_opencv(["opencv-python-headless 4.9"])
    assert "pip install opencv-python-headless" in broken.text


def test_an_empty_opencv_shell_is_not_taken_for_opencv(install, monkeypatch, package):
    monkeypatch.delitem(sys.modules, "cv2")
    package("cv2", "")
    (finding,) = install.check_opencv(["opencv-python 5.0"])
    assert finding.state == "broken" and "empty shell" in finding.text


def test_the_installed_opencv_is_found(install):
    assert len(install.installed_opencv()) >= 1


def test_models_go_into_their_folders_below_the_models_folder(install, monkeypatch, tmp_path, capsys):
    fetched = []

    def fake_download(entry, folder, on_progress=None):
        fetched.append((entry.name, folder))
        on_progress(1, 2)
        return folder / entry.filename

    monkeypatch.setattr(command, "download", fake_download)
    words = ["--models", "codeformer", "parsing_parsenet.pth", "--models-folder", str(tmp_path)]
    assert install.main(words) == 0
    assert fetched == [("codeformer", tmp_path / "facerestore_models"), ("parsenet", tmp_path / "facedetection")]
    assert "S-Lab" in capsys.readouterr().out

    fetched.clear()
    monkeypatch.setenv("CODEFORMER_MODELS", str(tmp_path / "default"))
    assert install.main(["--models", "codeformer"]) == 0
    assert fetched == [("codeformer", tmp_path / "default" / "facerestore_models")]


def test_a_failed_download_and_an_unknown_name(install, monkeypatch, tmp_path, capsys):
    def fail(entry, folder, on_progress=None):
        raise command.DownloadError("no network; fetch it by hand")

    monkeypatch.setattr(command, "download", fail)
    assert install.main(["--models", "codeformer", "--models-folder", str(tmp_path)]) == 1
    assert "no network" in capsys.readouterr().err
    assert install.main(["--models", "codeforner"]) == 2
    assert "codeformer" in capsys.readouterr().err


def test_the_pack_is_put_at_the_end_of_the_path_and_only_when_it_runs(install, monkeypatch):
    kept = [entry for entry in sys.path if entry not in ("", str(ROOT))]
    monkeypatch.setattr(sys, "path", list(kept))
    assert install.main([]) == 0
    assert sys.path == [*kept, str(ROOT)]


def test_under_a_webui_it_is_silent_and_imports_nothing_heavy(tmp_path):
    """The WebUI puts its own folder on the path, runs every install.py at each start, and prints what it says."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "launch.py").write_text("raise SystemExit('imported')")
    code = (
        "import runpy, sys\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'install.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    heavy = {'torch', 'cv2', 'numpy', 'launch'} & set(sys.modules)\n"
        "    sys.exit(f'{end.code} {sorted(heavy)}')"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd="/", env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr.strip()) == ("", "0 []")


def test_under_a_webui_it_says_what_is_missing(install, monkeypatch, capsys):
    monkeypatch.setattr(install, "is_webui", lambda: True)
    monkeypatch.setitem(install.PACKAGES, "codeformer_no_such_module", "no-such")
    assert install.main([]) == 1
    out = capsys.readouterr().out.strip()
    assert out.startswith("CodeFormer pack: missing no-such. Run: ") and "\n" not in out
