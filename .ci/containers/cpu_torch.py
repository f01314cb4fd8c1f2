"""Makes a wheel of torch without CUDA out of the installed one: `cpu_torch.py FOLDER`.

PyTorch's own index has such a wheel; this one stands in for it where that index cannot be reached. The libraries of
CUDA are left out, and what torch's other libraries link to of them is replaced by functions that report an error, so
that torch finds no GPU. Prints the requirement with its hash.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, distribution
from pathlib import Path
from tempfile import TemporaryDirectory

LEFT_OUT = (
    "libtorch_cuda.so",
    "libtorch_cuda_linalg.so",
    "libtorch_nvshmem.so",
    "libc10_cuda.so",
    "libcaffe2_nvrtc.so",
)
KEPT = ("libtorch_python.so", "libtorch.so", "libtorch_cpu.so", "libc10.so", "libshm.so", "libtorch_global_deps.so")
CUDA = ("libtorch_cuda", "libc10_cuda", "libcudart", "libcudnn", "libcufile", "libnccl", "libcupti")
NO_DEVICE = 100
"""`cudaErrorNoDevice`."""

CLASS = "_ZTVN10__cxxabiv117__class_type_infoE"
"""What C++ knows of a class without a base."""

METHODS = ", ".join(["nothing"] * 60)
START = f"static char room[65536]; static void *nothing(void) {{ return room; }} extern void *{CLASS}[];\n"
OF_CUDA = ("cuda", "cudnn", "cupti", "cuFile", "nccl")
CONSTRUCTOR = re.compile(r"_ZN(\w+?)C[12]E")


def main(folder: Path) -> None:
    """Write the wheel into a folder."""
    torch = distribution("torch")
    version = f"{torch.version.partition('+')[0]}+cpu"
    _, tag = (line for line in (torch.read_text("WHEEL") or "").splitlines() if line.startswith(("Root", "Tag")))
    wheel = folder / f"torch-{version}-{tag.partition(' ')[2]}.whl"
    info = f"torch-{version}.dist-info"
    libraries = Path(str(torch.locate_file("torch/lib")))
    with zipfile.ZipFile(wheel, "w") as archive, TemporaryDirectory() as directory:
        record = []
        for source, name in [*_kept(torch), *_stubs(libraries, Path(directory))]:
            entry = zipfile.ZipInfo.from_file(source, name)
            entry.date_time = (
                1980,
                1,
                1,
                0,
                0,
                0,
            )  # the same wheel each time, so that what it was built into can be kept
            with Path(source).open("rb") as content, archive.open(entry, "w") as member:
                shutil.copyfileobj(content, member)
            record.append(name)
        texts = {"METADATA": _metadata(torch, version), "WHEEL": torch.read_text("WHEEL") or ""}
        record += [f"{info}/{name}" for name in (*texts, "RECORD")]
        for name, text in {**texts, "RECORD": "".join(f"{name},,\n" for name in record)}.items():
            archive.writestr(zipfile.ZipInfo(f"{info}/{name}"), text)
    with wheel.open("rb") as content:
        sys.stdout.write(f"torch=={version} --hash=sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}\n")


def _kept(torch: Distribution) -> Iterator[tuple[str, str]]:
    for file in torch.files or []:
        name = str(file)
        if (
            name.startswith(("torch/", "torchgen/", "functorch/"))
            and file.name not in LEFT_OUT
            and file.suffix != ".pyc"
        ):
            yield str(file.locate()), name


def _metadata(torch: Distribution, version: str) -> str:
    lines = (torch.read_text("METADATA") or "").splitlines(keepends=True)
    cuda = ("Requires-Dist: nvidia", "Requires-Dist: cuda", "Requires-Dist: triton")
    return "".join(
        f"Version: {version}\n" if line.startswith("Version:") else line for line in lines if not line.startswith(cuda)
    )


def _stubs(libraries: Path, directory: Path) -> Iterator[tuple[str, str]]:
    """Make a library under each name that the kept ones link to; the first one has all symbols."""
    kept = [libraries / name for name in KEPT]
    needed = sorted({name for library in kept for name in _needed(library) if name.startswith(CUDA)})
    provided = _symbols(kept, "--defined-only")
    wanted = _symbols(kept, "--undefined-only").keys() - provided.keys()
    of_torch = _symbols([libraries / name for name in LEFT_OUT], "--defined-only")
    for built in filter(None, map(CONSTRUCTOR.match, list(wanted))):
        wanted |= {kind for kind in (f"_ZTVN{built[1]}E", f"_ZTIN{built[1]}E") if kind in of_torch}
    wanted |= {f"_ZTI{symbol[4:]}" for symbol in wanted if symbol.startswith("_ZTV") and symbol in of_torch}
    code = directory / "stubs.c"
    code.write_text(START + "".join(_stub(symbol, of_torch) for symbol in sorted(wanted)))
    for name in needed:
        stub = directory / name
        versions = directory / "versions"
        versions.write_text(f"{name} {{ *; }};\n")
        options = ["-shared", "-fPIC", "-fno-builtin", "-w", f"-Wl,-soname,{name}"]
        if name.startswith("libcu") and ".so." in name:
            options.append(f"-Wl,--version-script={versions}")
        subprocess.run(["gcc", *options, "-o", stub, code, "-lstdc++"], check=True)
        yield str(stub), f"torch/lib/{name}"


def _stub(symbol: str, of_torch: Mapping[str, str]) -> str:
    """Return C code for a symbol, empty for one that is neither CUDA's nor of torch's own libraries for CUDA."""
    built = CONSTRUCTOR.match(symbol)
    kind = f"N{built[1]}E" if built else symbol[4:]
    if symbol not in of_torch:
        code = f"int {symbol}(void) {{ return {NO_DEVICE}; }}" if symbol.startswith(OF_CUDA) else ""
    elif symbol.startswith("_ZTI"):
        code = f'void *{symbol}[] = {{&{CLASS}[2], "{kind}"}};'
    elif symbol.startswith("_ZTV"):
        code = f"extern void *_ZTI{kind}[]; void *{symbol}[] = {{0, _ZTI{kind}, {METHODS}}};"
    elif f"_ZTV{kind}" in of_torch:
        code = f"extern void *_ZTV{kind}[]; void {symbol}(void **self) {{ *self = &_ZTV{kind}[2]; }}"
    elif of_torch[symbol] != "T":
        code = f"void *{symbol}[64];"
    elif symbol.endswith("device_countEv"):
        code = f"int {symbol}(void) {{ return 0; }}"
    else:  # what it returns may be taken for a reference
        code = f"void *{symbol}(void) {{ return room; }}"
    return f"{code}\n"


def _needed(library: Path) -> Iterator[str]:
    for line in _output("readelf", "--dynamic", library):
        if "(NEEDED)" in line:
            yield line.partition("[")[2].rstrip("]")


def _symbols(libraries: Iterable[Path], which: str) -> dict[str, str]:
    """Return the kind of each dynamic symbol, as `nm` names it."""
    words = (line.split() for library in libraries for line in _output("nm", "--dynamic", which, library))
    return {word[-1].partition("@")[0]: word[-2] for word in words}


def _output(*command: str | Path) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
