"""Checks whether this pack can work here, and says what is missing and how to get it. Installs no packages.

ComfyUI-Manager runs it without arguments, by the host's Python; by hand: `python install.py [--models NAME
...]`. Stable-Diffusion-WebUI runs it at every start: there it only looks whether everything is installed, and is
silent when it is. Exit code 0: usable; 1: something required is missing, or a download failed; 2: typed wrongly.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from dataclasses import dataclass

OLDEST_PYTHON = (3, 10)
ROOT = os.path.dirname(os.path.abspath(__file__))
# import name -> distribution. torch first: the rest of the report is of little use without it.
PACKAGES = {
    "torch": "torch",
    "filelock": "filelock",
    "numpy": "numpy",
    "PIL": "pillow",
    "safetensors": "safetensors",
    "psutil": "psutil",
    "tqdm": "tqdm",
}
OPENCV_FLAVOURS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
FACEXLIB_MODULES = ("facexlib.detection.retinaface", "facexlib.parsing.parsenet")
# Imports of broken installs fail in these ways: a missing shared library, another numpy, a mismatched
# torchvision.
BROKEN = (ImportError, OSError, AttributeError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    state: "ok", "missing" or "broken" (required), "lacking" (works without), "warning".
    """

    state: str
    text: str


def main(argv: list[str] | None = None) -> int:
    """Report, download the models asked for, and return the exit code."""
    parser = argparse.ArgumentParser(prog="install.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help="download these, e.g. codeformer")
    parser.add_argument("--models-folder", metavar="FOLDER", help="models folder to put them below")
    args = parser.parse_args(argv)
    if not args.models and is_webui():
        return look_quietly()

    print("ComfyUI-CodeFormer, checking this Python: " + sys.executable)
    findings = check_python(sys.version_info[:3])
    if usable(findings):
        # At the end: this folder also holds `nodes`, a name that ComfyUI has too.
        if ROOT not in sys.path:
            sys.path.append(ROOT)
        findings += check_packages() + check_opencv(installed_opencv()) + check_facexlib()
    for finding in findings:
        print(f"  {finding.state:8}{finding.text}")
    if not usable(findings):
        print("Not usable yet: get what is missing or broken above, then start again.")
        # Models can't be fetched by a Python this package's code doesn't run on.
        return 1 if not usable(findings[:1]) else max(1, download_models(args.models, args.models_folder))
    print("Everything required is there.")
    if not args.models:
        report_models()
    return download_models(args.models, args.models_folder)


def usable(findings: list[Finding]) -> bool:
    return not any(finding.state in ("missing", "broken") for finding in findings)


def is_webui() -> bool:
    """Whether Stable-Diffusion-WebUI runs this: it puts its own folder on the path. Imports nothing of it."""
    launch = importlib.util.find_spec("launch")
    if launch is None or launch.origin is None:
        return False
    return os.path.isdir(os.path.join(os.path.dirname(launch.origin), "modules"))


def look_quietly() -> int:
    """Only looks for the packages, which takes no time; says what is missing. The exit code."""
    findings = check_python(sys.version_info[:3])
    for module, distribution in {**PACKAGES, "cv2": "opencv-python", "facexlib": "facexlib"}.items():
        if importlib.util.find_spec(module) is None:
            fix = f"Run: {sys.executable} -m pip install {distribution}"
            findings.append(Finding("lacking" if module == "facexlib" else "missing", f"{distribution}. {fix}"))
    for finding in findings:
        if finding.state != "ok":
            print(f"CodeFormer pack: {finding.state} {finding.text}")
    return 0 if usable(findings) else 1


def check_python(version: tuple[int, ...]) -> list[Finding]:
    text = "Python " + ".".join(map(str, version))
    if version[:2] >= OLDEST_PYTHON:
        return [Finding("ok", text)]
    wanted = ".".join(map(str, OLDEST_PYTHON))
    return [Finding("broken", f"{text} is too old. Run ComfyUI with Python {wanted} or newer")]


def check_packages() -> list[Finding]:
    findings = []
    for module, distribution in PACKAGES.items():
        fix = f"Run: {sys.executable} -m pip install {distribution}"
        if module == "torch":
            fix = "It comes with ComfyUI; without a host see https://pytorch.org/get-started"
        findings.append(check_import(module, distribution, fix))
    return findings


def check_import(module: str, distribution: str, fix: str) -> Finding:
    """Really imports: what is listed as installed may still not work."""
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        absent = module.startswith(error.name or module)
        missing = distribution if absent else f"{error.name}, which {distribution} needs"
        return Finding("missing", f"{missing}. {fix}")
    except BROKEN as error:
        return Finding("broken", f"{distribution} does not import ({one_line(error)}). {fix}")
    return Finding("ok", f"{distribution} {getattr(imported, '__version__', '')}")


def installed_opencv() -> list[str]:
    """Names and versions of all installed distributions that bring cv2."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower().replace("_", "-")
        if name in OPENCV_FLAVOURS:
            found[name] = distribution.version
    return [f"{name} {found[name]}" for name in OPENCV_FLAVOURS if name in found]


def check_opencv(distributions: list[str]) -> list[Finding]:
    """Any flavour will do; a second one is never asked for, because they overwrite each other's files."""
    several = len(distributions) > 1
    names = [distribution.split()[0] for distribution in distributions]
    fix = f"Run: {sys.executable} -m pip install opencv-python"
    if distributions:
        keep = names[0]
        fix = f"Run: pip uninstall -y {' '.join(names)}, then pip install {keep}"
    finding = check_import("cv2", "OpenCV (cv2)", fix)
    if finding.state == "ok" and not hasattr(sys.modules["cv2"], "imdecode"):
        # What an uninstalled second flavour leaves behind: a folder that imports and holds nothing.
        finding = Finding("broken", f"OpenCV (cv2) is an empty shell. {fix}")
    if finding.state == "ok":
        finding = Finding("ok", ", ".join(distributions) or finding.text)
    if not several:
        return [finding]
    warning = f"{len(distributions)} OpenCV packages overwrite each other's files: {', '.join(names)}. Keep one. {fix}"
    return [finding, Finding("warning", warning)]


def check_facexlib() -> list[Finding]:
    """RetinaFace and ParseNet are built by facexlib; what comes with this pack works without."""
    fix = f"Run: {sys.executable} -m pip install facexlib"
    for module in FACEXLIB_MODULES:
        finding = check_import(module, "facexlib", fix)
        if finding.state != "ok":
            return [
                Finding(
                    "lacking",
                    f"{finding.text}. Until then RetinaFace and ParseNet don't work, starter_detector and yunet do",
                )
            ]
    return [Finding("ok", "facexlib " + importlib.metadata.version("facexlib"))]


def report_models() -> None:
    """Which of the files most people want are here."""
    from codeformer_core.weights.catalog import RESTORERS, find_entry
    from codeformer_core.weights.folders import default_roots, find_weights

    print("Models:")
    missing = []
    usual, *others = RESTORERS
    for name in (usual, *others, "retinaface_resnet50", "parsenet", "starter_detector", "yunet"):
        entry = find_entry(name)
        assert entry is not None
        found = find_weights(entry, default_roots())
        if name in others and not found:
            continue
        print(f"  {name}: {found or 'not installed'}")
        missing += [] if found or entry.bundled else [name]
    if missing:
        script = os.path.join(ROOT, "install.py")
        print("Those not installed do better than what comes with the pack. Choose them in the loaders, or:")
        print(f'"{sys.executable}" "{script}" --models {" ".join(missing)}')


def download_models(names: list[str], models_folder: str | None) -> int:
    """Fetch each into its own folder below the models folder; the exit code."""
    if not names:
        return 0
    from codeformer_core.commands import weights as command
    from codeformer_core.weights.catalog import find_entry, unknown_name

    entries = []
    for name in names:
        entry = find_entry(name)
        if entry is None:
            print(unknown_name(name), file=sys.stderr)
            return 2
        entries.append(entry)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    codes = []
    for entry in entries:
        words = ["download", entry.name]
        if models_folder is not None:
            words += ["--folder", os.path.join(models_folder, entry.folder)]
        codes.append(command.run(parser.parse_args(words)))
        if codes[-1] == command.INTERRUPTED:
            break
    return max(codes)


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:200] + "..."


if __name__ == "__main__":
    sys.exit(main())
