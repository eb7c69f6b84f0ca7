"""Signatures of packages beside them, by OpenSSF's model-signing: `pip install 'modelbuild[signing]'`.

A signature covers every file of a package, and is kept elsewhere, for a package holds what was built and no more.
"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

from modelbuild.errors import ConfigError, HostError, PackageError, first_line, listed, unforeseen
from modelbuild.manifest import Manifest
from modelbuild.package_files import verify_package

_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
_MAKE = "openssl ecparam -name prime256v1 -genkey -noout -out key.pem"
_SHOWN = 8
# In the list that model-signing prints, whose quotes may be escaped.
_CHANGED = re.compile(r"Hash mismatch for \\?'([^'\\]+)")
_OTHERS = re.compile(r"(?:Extra|Missing) files (?:found )?in model \\?'[^']*': ([^\"'\\\]]+)")


def sign(package: Path, signature: Path, private_key: Path) -> None:
    """Sign the package in a folder with an elliptic-curve key (P-256, P-384 or P-521) in PEM, without a password, and
    write the signature, a Sigstore bundle, to a file.

    Raises PackageError where the package is not what was built, ConfigError for a key that is none or a file that is
    there already or inside the package, and HostError where model-signing is not installed.
    """
    if signature.resolve().is_relative_to(package.resolve()):
        raise ConfigError("a signature is kept beside a package", where=str(signature), hint="choose another file")
    if signature.exists():
        raise ConfigError("it exists", where=str(signature), hint="remove it, or choose another --signature")
    verify_package(package)
    signing = _library("model_signing.signing")
    _require_key(private_key, private=True)
    configured = signing.Config().use_elliptic_key_signer(private_key=private_key)
    configured.set_hashing_config(_every_file()).sign(package, signature)


def verify_signature(package: Path, signature: Path, public_key: Path) -> Manifest:
    """The manifest of the package in a folder, if all of it is what was built and `signature` is one of every file of
    it by the private key that belongs to `public_key`.

    Raises PackageError where it is not, ConfigError for a key that is none, and HostError where model-signing is not
    installed.
    """
    manifest = verify_package(package)
    verifying = _library("model_signing.verifying")
    _require_key(public_key, private=False)
    _require_signature(signature)
    configured = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    try:
        configured.set_hashing_config(_every_file()).verify(package, signature)
    except Exception as error:
        raise PackageError(
            f"the signature does not hold: {_why(error)}", where=str(package), hint="do not use the package"
        ) from error
    return manifest


def _why(error: Exception) -> str:
    """What model-signing found, for people: its own words have the digests of all files."""
    said = str(error)
    if "Signature mismatch" in said:
        others = [name for found in _OTHERS.findall(said) for name in found.split(", ")]
        return f"it is one of other files: {listed([*_CHANGED.findall(said), *others], _SHOWN)}"
    return first_line(error) if said and "Key mismatch" not in said else "it was made with another key"


def _every_file() -> Any:
    """model-signing leaves out what Git keeps, if it is not told otherwise."""
    return _library("model_signing.hashing").Config().set_ignored_paths(paths=[], ignore_git_paths=False)


def _library(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise HostError(f"'{error.name}' is not installed", hint="pip install 'modelbuild[signing]'") from error


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        state = "no such file" if isinstance(error, FileNotFoundError) else "a folder, where a file is wanted"
        raise ConfigError(state, where=str(path), hint=f"give {what}") from error
    except OSError as error:
        raise unforeseen(error) from error


def _require_key(path: Path, *, private: bool) -> None:
    """Raise ConfigError, which says why, for a file that holds no key that packages are signed with."""
    kind = "private" if private else "public"
    wanted = f"a {kind} key in PEM, on {', '.join(_CURVES.values())}"
    content = _read(path, wanted)
    serialization = _library("cryptography.hazmat.primitives.serialization")
    try:
        if private:
            key = serialization.load_pem_private_key(content, password=None).public_key()
        else:
            key = serialization.load_pem_public_key(content)
    except TypeError as error:
        hint = f"write it without: openssl ec -in {path.name} -out plain.pem"
        raise ConfigError("the key has a password", where=str(path), hint=hint) from error
    except Exception as error:
        made = _MAKE if private else "openssl ec -in key.pem -pubout -out key.pub"
        raise ConfigError(
            f"it is no {kind} key in PEM", where=str(path), hint=f"such a file is made by: {made}"
        ) from error
    curve = getattr(getattr(key, "curve", None), "name", None)
    if curve not in _CURVES:
        found = curve or type(key).__name__.removesuffix("PublicKey")
        raise ConfigError(f"a key of the kind {found}", where=str(path), hint=f"{wanted} is made by: {_MAKE}")


def _require_signature(path: Path) -> None:
    """Raise PackageError for a file that is no Sigstore bundle."""
    try:
        found = json.loads(_read(path, "the signature that came with the package"))
        whole = {"mediaType", "verificationMaterial", "dsseEnvelope"} <= found.keys() and found["dsseEnvelope"][
            "signatures"
        ]
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        hint = "give the file that `modelbuild sign` wrote"
        raise PackageError("it is no signature of a package, or damaged", where=str(path), hint=hint)
