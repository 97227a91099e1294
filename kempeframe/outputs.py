"""The run directory: tables, claims, figures, TensorBoard, and what is needed to run it again."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from kempeframe.curves import curve_digest
from kempeframe.digest import digest_of, join
from kempeframe.figures import Figure, save
from kempeframe.plan import Plan
from kempeframe.predicted import predicted_table
from kempeframe.series import NotDrawable
from kempeframe.spec import Spec
from kempeframe.status import as_data, write_json
from kempeframe.store import NEEDS, Store
from kempeframe.study import Study
from kempeframe.written import spec_text

DRAWING = 7  # raised when figures or event files come to look different


class RunDirectory:
    """Writes a study's results; what has not changed since the last time is left as it is."""

    def __init__(self, path: Path):
        self.path = path
        self.manifest_path = path / "manifest.json"
        self.before = _read_manifest(self.manifest_path)
        self.now: dict[str, str] = {}
        self.needed: set[str] = set()  # keys in the store
        self.remarks: list[str] = []  # what could not be written, and why

    def begin(self, spec: Spec, plan: Plan, store: Store) -> None:
        """Write the spec, for those who look before the end, and tell the store what this run needs of it."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.needed = set(plan.keys())
        store.register(self.path, self.needed | _keys_needed_before(self.path))  # results at snapshots among them
        self._write_spec(spec)

    def write(self, study: Study) -> list[str]:
        """Everything; returns the names of what was written anew."""
        self.path.mkdir(parents=True, exist_ok=True)
        needed = {*study.plan.keys(), *study.results}  # results at snapshots are known only now
        if needed != self.needed:
            study.session.store.register(self.path, needed)
        rows = digest_of(_plain_columns(study))
        self.manifest_path.unlink(missing_ok=True)  # until all is written: what was left halfway is written anew
        written = []
        history = digest_of({name: [_plain(v) for v in values] for name, values in study.snapshots.columns.items()})
        if self._changed("table", join(rows, history)):
            study.rows.write_csv(self.path / "table.csv")
            study.rows.write_parquet(self.path / "table.parquet")
            study.snapshots.write_parquet(self.path / "history.parquet")
            predicted = predicted_table(study)
            if predicted is not None:
                predicted.write_csv(self.path / "predicted.csv")
            written.append("table")
        claims = [verdict.as_json() for verdict in study.claims]
        write_json(self.path / "claims.json", claims)
        self._write_spec(study.spec)
        self._write_failures(study)
        pictures = []
        drawn = False
        for figure in study.spec.figures:
            drawn |= self._figure(study, figure, join(rows, history) if figure.rows == "history" else rows)
            picture = self.path / "figures" / f"{figure.name}.png"
            if picture.exists():
                pictures.append(picture)
        if self._changed("tensorboard", join(DRAWING, rows, digest_of(claims), *self.now.values())) or drawn:
            from kempeframe import tracking
            from kempeframe.claims_picture import draw_claims

            if study.claims:
                save(draw_claims(study.claims), self.path / "figures", "claims")
                pictures.append(self.path / "figures" / "claims.png")
            tracking.write(study, study.claims, pictures, self.path / "tensorboard")
            write_json(self.path / "environment.json", environment(study))
            written.append("tensorboard")
        write_json(self.manifest_path, self.now)
        return written

    def _figure(self, study: Study, figure: Figure, rows: str) -> bool:
        digest = join(DRAWING, rows, digest_of(figure), curve_digest(study, figure))
        files = [self.path / "figures" / f"{figure.name}.{ending}" for ending in ("png", "pdf")]
        if not self._changed(f"figure {figure.name}", digest) and all(file.exists() for file in files):
            return False
        try:
            picture = study.draw(figure)
        except NotDrawable as error:
            self.remarks.append(str(error))
            return False
        save(picture, self.path / "figures", figure.name)
        study.session.store.flush()
        return True

    def _changed(self, name: str, digest: str) -> bool:
        self.now[name] = digest
        return self.before.get(name) != digest

    def _write_spec(self, spec: Spec) -> None:
        """The spec as it was run, overrides included; run again, it gives the same digests."""
        raw = {key: value for key, value in spec.raw.items() if key != "smoke"}
        if "plugins" in raw:
            folder = spec.path.parent.resolve()
            raw["plugins"] = [str(folder / name) for name in raw["plugins"]]
        (self.path / "spec.toml").write_text(spec_text(raw), encoding="utf-8")

    def _write_failures(self, study: Study) -> None:
        path = self.path / "failures.json"
        if study.failures:
            write_json(path, [as_data(failure) for failure in study.failures])
        else:
            path.unlink(missing_ok=True)


def _plain_columns(study: Study) -> Mapping[str, Any]:
    timed = "fit_seconds"
    return {k: [_plain(v) for v in values] for k, values in study.rows.columns.items() if k != timed}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _keys_needed_before(path: Path) -> set[str]:
    """What an earlier run in this directory needed."""
    try:
        raw = (path / NEEDS).read_bytes()
    except OSError:
        return set()
    return {raw[at : at + 16].hex() for at in range(0, len(raw), 16)}


def _read_manifest(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def environment(study: Study) -> dict[str, Any]:
    """Versions, commit, machine and device."""
    names = ["kempeframe", "torch", "numpy", "scipy", "accelerate", "attrs", "cattrs", "pluggy", "tensorboard"]
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    plugins = {p.name: {"version": p.version, "editable": p.editable} for p in study.spec.registry.plugins.values()}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "device": study.session.device,
        "versions": versions,
        "plugins": plugins,
        "commit": _commit(study.spec.path.parent),
        "seconds": round(study.seconds, 3),
    }


def _commit(folder: Path) -> str | None:
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
