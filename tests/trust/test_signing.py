"""A signature covers every file, and holds for one key."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from modelbuild.cli import main
from modelbuild.errors import ConfigError, PackageError
from modelbuild.manifest import read_manifest, write_manifest
from modelbuild.package_files import record_files
from modelbuild.signing import sign, verify_signature

Keys = tuple[Path, Path]


def write_keys(folder: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> Keys:
    """The private and the public one, in PEM."""
    folder.mkdir()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "key.pem").write_bytes(private)
    (folder / "key.pub").write_bytes(public)
    return folder / "key.pem", folder / "key.pub"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return write_keys(tmp_path / "keys", ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def signature(package: Path, keys: Keys, tmp_path: Path) -> Path:
    """That of the package."""
    sign(package, tmp_path / "package.sig", keys[0])
    return tmp_path / "package.sig"


def test_a_signature_holds_for_what_was_signed(package: Path, keys: Keys, signature: Path) -> None:
    verify_signature(package, signature, keys[1])


def seal(package: Path) -> None:
    """Make the manifest fit whatever is in the folder, as somebody would who means harm."""
    write_manifest(replace(read_manifest(package), files=record_files(package)), package)


@pytest.mark.parametrize("name", ["model.onnx", "config.json", "golden.npz", ".gitattributes", "1_Pooling/config.json"])
def test_a_file_that_changed_with_the_manifest_is_named(name: str, package: Path, keys: Keys, tmp_path: Path) -> None:
    (package / name).parent.mkdir(exist_ok=True)
    (package / name).open("ab").close()
    seal(package)
    sign(package, tmp_path / "new.sig", keys[0])
    verify_signature(package, tmp_path / "new.sig", keys[1])
    with (package / name).open("ab") as stream:
        stream.write(b"more")
    seal(package)
    with pytest.raises(PackageError, match=f"the signature does not hold: .*{name}"):
        verify_signature(package, tmp_path / "new.sig", keys[1])


@pytest.mark.parametrize("name", ["more.txt", ".git/hooks", ".gitattributes", ".github/workflow", ".gitignore"])
def test_a_file_that_was_added_with_the_manifest_is_named(
    name: str, package: Path, keys: Keys, signature: Path
) -> None:
    (package / name).parent.mkdir(exist_ok=True)
    (package / name).touch()
    with pytest.raises(PackageError, match=f"the package is not what was built: {name} does not belong to it"):
        verify_signature(package, signature, keys[1])
    seal(package)
    with pytest.raises(PackageError, match=f"the signature does not hold: .*{name}"):
        verify_signature(package, signature, keys[1])


def test_another_key_is_told(package: Path, signature: Path, tmp_path: Path) -> None:
    _, other = write_keys(tmp_path / "other", ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(PackageError, match="the signature does not hold: it was made with another key"):
        verify_signature(package, signature, other)


@pytest.fixture
def files(tmp_path: Path, keys: Keys) -> Path:
    """A folder of files that somebody may take for a key or a signature."""
    folder = tmp_path / "files"
    folder.mkdir()
    write_keys(folder / "rsa", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    write_keys(folder / "other", ec.generate_private_key(ec.SECP256K1()))
    locked = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
    )
    (folder / "locked.pem").write_bytes(locked)
    (folder / "text").write_text("no key")
    (folder / "empty").touch()
    (folder / "bare.json").write_text(
        '{"mediaType": "", "verificationMaterial": {}, "dsseEnvelope": {"signatures": []}}'
    )
    (folder / "list.json").write_text("[]")
    shutil.copy(keys[1], folder / "key.pub")
    return folder


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("text", "it is no private key in PEM: .*: such a file is made by: openssl ecparam"),
        ("empty", "it is no private key in PEM"),
        ("key.pub", "it is no private key in PEM"),
        ("nowhere", "no such file: .*: give a private key in PEM, on P-256, P-384, P-521"),
        ("rsa", "a folder, where a file is wanted"),
        ("rsa/key.pem", "a key of the kind RSA: .*: a private key in PEM, on P-256, P-384, P-521 is made by"),
        ("other/key.pem", "a key of the kind secp256k1"),
        ("locked.pem", r"the key has a password: .*: write it without: openssl ec -in locked\.pem"),
    ],
)
def test_what_is_no_private_key_is_told(name: str, said: str, package: Path, files: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        sign(package, tmp_path / "new.sig", files / name)
    assert not (tmp_path / "new.sig").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("text", "it is no public key in PEM"),
        ("other/key.pem", "it is no public key in PEM: .*: such a file is made by: openssl ec -in key.pem -pubout"),
        ("rsa/key.pub", "a key of the kind RSA"),
        ("nowhere", "no such file"),
    ],
)
def test_what_is_no_public_key_is_told(name: str, said: str, package: Path, files: Path, signature: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        verify_signature(package, signature, files / name)


@pytest.mark.parametrize("name", ["text", "empty", "bare.json", "list.json"])
def test_what_is_no_signature_is_told(name: str, package: Path, keys: Keys, files: Path) -> None:
    with pytest.raises(PackageError, match=r"it is no signature of a package, or damaged: .*: give the file"):
        verify_signature(package, files / name, keys[1])
    with pytest.raises(ConfigError, match=r"no such file: .*: give the signature that came with the package"):
        verify_signature(package, files / "nowhere", keys[1])


def test_a_signature_that_is_cut_off_or_changed_is_told(package: Path, keys: Keys, signature: Path) -> None:
    whole = signature.read_text()
    signature.write_text(whole[:-40])
    with pytest.raises(PackageError, match="it is no signature of a package, or damaged"):
        verify_signature(package, signature, keys[1])
    bundle = json.loads(whole)
    bundle["dsseEnvelope"]["payload"] = bundle["dsseEnvelope"]["payload"][:-8] + "AAAAAAA="
    signature.write_text(json.dumps(bundle))
    with pytest.raises(PackageError, match="the signature does not hold: ") as caught:
        verify_signature(package, signature, keys[1])
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_every_curve_serves(curve: ec.EllipticCurve, package: Path, tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / "more", ec.generate_private_key(curve))
    sign(package, tmp_path / "new.sig", private)
    verify_signature(package, tmp_path / "new.sig", public)


def test_a_signature_is_kept_beside_a_package_and_only_of_what_was_built(
    package: Path, keys: Keys, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="kept beside a package"):
        sign(package, package / "package.sig", keys[0])
    with pytest.raises(ConfigError, match="it exists"):
        sign(package, keys[0], keys[0])
    assert main(["sign", "registry:tiny", "--private-key", str(keys[0])]) == 2
    (package / "config.json").write_text("{ }")
    with pytest.raises(PackageError, match=r"config\.json has 3 bytes"):
        sign(package, tmp_path / "package.sig", keys[0])


def test_the_commands_sign_and_verify(
    package: Path, keys: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sign", str(package), "--private-key", str(keys[0])]) == 0
    signature = tmp_path / "package.sig"
    assert capsys.readouterr().out.strip() == str(signature)
    words = ["verify", str(package), "--signature", str(signature), "--public-key", str(keys[1])]
    assert main(words) == 0
    assert capsys.readouterr().out == "tiny: 4 files are what was built, and signed by that key\n"
    assert main(["verify", str(package)]) == 0
    write_manifest(replace(read_manifest(package), verified=False), package)
    capsys.readouterr()
    assert main(["verify", str(package)]) == 0
    assert capsys.readouterr().out == "tiny: 4 files are what was built; it was not proven (validation=off)\n"
    assert main([*words[:4]]) == 2
    assert "--signature and --public-key belong together" in capsys.readouterr().err
    (package / "config.json").write_text("{ }")
    (package / "more").touch()
    assert main(["verify", str(package)]) == 6
    error = capsys.readouterr().err
    assert "more does not belong to it; config.json has 3 bytes instead of 2" in error


def test_openssl_makes_keys_that_serve(package: Path, tmp_path: Path) -> None:
    """As the hint says."""
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    lines = (f"ecparam -name prime256v1 -genkey -noout -out {private}", f"ec -in {private} -pubout -out {public}")
    for line in lines:
        subprocess.run(["openssl", *line.split()], check=True, capture_output=True)
    sign(package, tmp_path / "package.sig", private)
    verify_signature(package, tmp_path / "package.sig", public)
