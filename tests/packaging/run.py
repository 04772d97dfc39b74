"""Takes idem into a build the way its name says; see packaging.cmake."""

import argparse
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("name")
for option in ("source", "scratch", "cmake", "compiler", "launcher", "version"):
    parser.add_argument(f"--{option}", required=True)
parser.add_argument("--redis", action="store_true", help="hiredis is here")
parser.add_argument("--onceonly", action="store_true", help="libcurl and nlohmann-json are here")
parser.add_argument("--redis-tls", action="store_true", help="OpenSSL is here, too")
arguments = parser.parse_args()
groups = [group for group in ("redis", "onceonly") if getattr(arguments, group)]

source = pathlib.Path(arguments.source)
scratch = pathlib.Path(arguments.scratch)
here = pathlib.Path(__file__).resolve().parent
cmake = arguments.cmake
compiler = arguments.compiler
major, minor, patch = (int(part) for part in arguments.version.split("."))

# What the surroundings set must not find idem for us, nor hide it.
environment = {name: value for name, value in os.environ.items()
               if name not in {"CMAKE_PREFIX_PATH", "PKG_CONFIG_PATH", "DESTDIR", "CXXFLAGS"}}
launch = [arguments.launcher] if arguments.launcher else []
environment["CXX"] = shlex.join(launch + [compiler])


def run(*command, cwd=None, output=False, env=None):
    command = [str(part) for part in command]
    print("+", shlex.join(command), flush=True)
    result = subprocess.run(command, cwd=cwd, env={**environment, **(env or {})}, check=False,
                            stdout=subprocess.PIPE if output else None, text=True)
    if result.returncode != 0:
        sys.exit(f"exit status {result.returncode}")
    return result.stdout


def fail(what):
    sys.exit(f"failed: {what}")


def configure(project, build, *options, refused=None):
    command = [cmake, "-S", project, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug", *options]
    if refused is None:
        run(*command)
        return
    print("+", *command, flush=True)
    result = subprocess.run(command, env=environment, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            text=True)
    print(result.stdout)
    if result.returncode == 0:
        fail("it was configured, but had to be refused")
    if refused not in " ".join(result.stdout.split()):
        fail(f"it was refused for another reason than: {refused}")


def build(tree, *options):
    run(cmake, "--build", tree, *options)


def install(prefix, *options):
    """idem, installed as a packager does it."""
    tree = scratch / "idem"
    configure(source, tree, "-DIDEM_BUILD_TESTS=OFF", "-DIDEM_BUILD_EXAMPLES=OFF", f"-DCMAKE_INSTALL_PREFIX={prefix}",
              *options)
    build(tree, "--target", "install")


def installed_headers(prefix):
    def names(folder):
        return {path.relative_to(folder).as_posix() for path in (folder / "idem").rglob("*.hpp")}

    if names(source / "include") != names(prefix / "include"):
        fail(f"headers that differ: {names(source / 'include') ^ names(prefix / 'include')}")


def clean_flags(tree):
    """idem forces nothing but its include folder and the language upon the one who uses it."""
    for line in (tree / "compile_commands.json").read_text(encoding="utf-8").splitlines():
        if '"command"' in line:
            for flag in ("-Werror", "-Wall", "-fexceptions", "-O2", "-D"):
                if f" {flag}" in line.replace(" -DCMAKE", ""):
                    fail(f"{flag} is forced upon a consumer: {line}")


def run_consumers(tree):
    run(tree / "consumer")
    for group in groups:
        run(tree / f"{group}_consumer")


def add_subdirectory():
    tree = scratch / "consumer"
    configure(here / "add_subdirectory", tree, f"-DIDEM_SOURCE={source}", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
              f"-DCMAKE_INSTALL_PREFIX={scratch / 'prefix'}", f"-DIDEM_REDIS={'ON' if arguments.redis else 'OFF'}",
              f"-DIDEM_ONCEONLY={'ON' if arguments.onceonly else 'OFF'}")
    build(tree)
    run_consumers(tree)
    clean_flags(tree)
    # A guest installs nothing and brings neither tests nor examples.
    build(tree, "--target", "install")
    brought = [path for path in (scratch / "prefix").rglob("*") if path.is_file()]
    if [path.name for path in brought] != ["consumer"]:
        fail(f"installed into the parent's prefix: {brought}")
    if list(tree.rglob("idem_tests*")) or list(tree.rglob("quickstart*")):
        fail("tests or examples were built in somebody else's build")


def find_package():
    prefix = scratch / "prefix"
    install(prefix)
    installed_headers(prefix)
    # The tree may be moved after it was installed.
    moved = scratch / "moved"
    prefix.rename(moved)
    tree = scratch / "consumer"
    configure(here / "find_package", tree, f"-DCMAKE_PREFIX_PATH={moved}", f"-DWANTED={major}.{minor}",
              "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", *([f"-DCOMPONENTS=COMPONENTS;{';'.join(groups)}"] if groups else []))
    build(tree)
    run_consumers(tree)
    clean_flags(tree)
    if arguments.redis_tls:
        with_tls = (f"-DCMAKE_PREFIX_PATH={moved}", "-DTLS=ON", "-DCOMPONENTS=COMPONENTS;redis_tls")
        configure(here / "find_package", scratch / "tls", *with_tls)
        build(scratch / "tls", "--target", "redis_tls_consumer")
        run(scratch / "tls" / "redis_tls_consumer")
        configure(here / "find_package", scratch / "refused_tls", *with_tls, "-DCMAKE_DISABLE_FIND_PACKAGE_OpenSSL=ON",
                  refused="idem::redis_tls: OpenSSL 1.1.1 or later is not found")
    # Who needs no hiredis doesn't miss it; who does is told.
    without = (f"-DCMAKE_PREFIX_PATH={moved}", "-DIDEM_HIREDIS_LIBRARY=")
    configure(here / "find_package", scratch / "without", *without)
    configure(here / "find_package", scratch / "refused", *without, "-DCOMPONENTS=COMPONENTS;redis",
              refused="idem::redis: hiredis is not found")
    configure(source, scratch / "insisting", "-DIDEM_BUILD_TESTS=OFF", "-DIDEM_REDIS=ON", "-DIDEM_HIREDIS_LIBRARY=",
              refused="IDEM_REDIS is ON, but hiredis is not found")
    # The same for the client of OnceOnly.
    without = (f"-DCMAKE_PREFIX_PATH={moved}", "-DCMAKE_DISABLE_FIND_PACKAGE_CURL=ON")
    configure(here / "find_package", scratch / "without_curl", *without)
    configure(here / "find_package", scratch / "refused_curl", *without, "-DCOMPONENTS=COMPONENTS;onceonly",
              refused="idem::onceonly: libcurl or nlohmann-json is not found")


def find_package_too_new():
    prefix = scratch / "prefix"
    install(prefix)
    for wanted in (f"{major + 1}.0", f"{major}.{minor + 1}"):
        configure(here / "find_package", scratch / wanted, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DWANTED={wanted}",
                  refused=f'compatible with requested version "{wanted}"')


def find_package_32_bit():
    """A package installed by a 64-bit build serves 32-bit builds too: there is nothing compiled in it."""
    prefix = scratch / "prefix"
    install(prefix)
    version_file = next(prefix.rglob("idem-config-version.cmake"))
    script = scratch / "ask.cmake"
    script.write_text(
        'cmake_minimum_required(VERSION 3.23)\nset(CMAKE_SIZEOF_VOID_P 4)\nset(PACKAGE_FIND_NAME idem)\n'
        f'set(PACKAGE_FIND_VERSION "{major}.{minor}")\nset(PACKAGE_FIND_VERSION_MAJOR {major})\n'
        f'include("{version_file}")\n'
        'if(PACKAGE_VERSION_UNSUITABLE OR NOT PACKAGE_VERSION_COMPATIBLE)\n  message(FATAL_ERROR "refused")\nendif()\n',
        encoding="utf-8")
    run(cmake, "-P", script)


def parent_that_exports():
    """A library that uses an installed idem and exports itself; its user finds both."""
    prefix = scratch / "prefix"
    install(prefix)
    use_parent(prefix, f"-DCMAKE_PREFIX_PATH={prefix}")


def parent_that_installs():
    """The same with idem as a subdirectory that is asked to be installed along."""
    prefix = scratch / "prefix"
    use_parent(prefix, f"-DIDEM_SOURCE={source}", "-DIDEM_INSTALL=ON")
    installed_headers(prefix)


def use_parent(prefix, *options):
    parent = scratch / "parent"
    configure(here / "parent", parent, f"-DCMAKE_INSTALL_PREFIX={prefix}", *options)
    build(parent, "--target", "install")
    tree = scratch / "consumer"
    configure(here / "parent_user", tree, f"-DCMAKE_PREFIX_PATH={prefix}")
    build(tree)
    run(tree / "consumer")


def compile_with_pkg_config(prefix):
    moved = scratch / "moved"
    prefix.rename(moved)
    folder = {"PKG_CONFIG_PATH": str(next(moved.rglob("idem.pc")).parent)}
    if run("pkg-config", "--modversion", "idem", output=True, env=folder).strip() != arguments.version:
        fail("pkg-config gives another version")
    flags = shlex.split(run("pkg-config", "--cflags", "--libs", "idem", output=True, env=folder))
    run(compiler, "-std=c++20", here / "consumer.cpp", "-o", scratch / "consumer", *flags)
    for group in groups:
        flags = shlex.split(run("pkg-config", "--cflags", "--libs", f"idem-{group}", output=True, env=folder))
        run(compiler, "-std=c++20", here / f"{group}_consumer.cpp", "-o", scratch / f"{group}_consumer", *flags)
    run_consumers(scratch)
    if arguments.redis_tls:
        flags = shlex.split(run("pkg-config", "--cflags", "--libs", "idem-redis-tls", output=True, env=folder))
        run(compiler, "-std=c++20", here / "redis_tls_consumer.cpp", "-o", scratch / "redis_tls_consumer", *flags)
        run(scratch / "redis_tls_consumer")


def pkg_config():
    prefix = scratch / "prefix"
    install(prefix)
    compile_with_pkg_config(prefix)


def copied_headers():
    """The include folder, copied; nothing built or generated."""
    shutil.copytree(source / "include", scratch / "vendor")
    run(compiler, "-std=c++20", "-pthread", f"-I{scratch / 'vendor'}", here / "consumer.cpp", "-o", scratch / "consumer")
    run(scratch / "consumer")


def meson():
    """idem's own meson build, as far as it can be seen without building the unit tests a third time."""
    run("meson", "setup", scratch / "build", source)
    tests = run("meson", "test", "-C", scratch / "build", "--list", output=True)
    for path in sorted((source / "tests").glob("test_*.cpp")):
        if path.stem.removeprefix("test_") not in tests:
            fail(f"meson does not know {path.name}")
    run("meson", "compile", "-C", scratch / "build", "consumer")
    run("meson", "test", "-C", scratch / "build", "--no-rebuild", "consumer")


def meson_subproject():
    project = scratch / "project"
    shutil.copytree(here / "meson_subproject", project)
    for consumer in ("consumer.cpp", "redis_consumer.cpp", "onceonly_consumer.cpp"):
        shutil.copy(here / consumer, project)
    (project / "subprojects").mkdir()
    (project / "subprojects" / "idem").symlink_to(source)
    run("meson", "setup", scratch / "build", project)
    run("meson", "test", "-C", scratch / "build")
    # meson asks pkg-config for what they need.
    for group in groups:
        if shutil.which("pkg-config") and not (scratch / "build" / f"{group}_consumer").exists():
            fail(f"there is what it needs, but no idem-{group}")
    if list((scratch / "build").rglob("*idem_tests*")):
        fail("tests are built in somebody else's build")


def meson_install():
    prefix = scratch / "prefix"
    run("meson", "setup", scratch / "build", source, f"--prefix={prefix}", "-Dtests=disabled")
    run("meson", "install", "-C", scratch / "build")
    installed_headers(prefix)
    compile_with_pkg_config(prefix)


shutil.rmtree(scratch, ignore_errors=True)
scratch.mkdir(parents=True)
globals()[arguments.name]()
