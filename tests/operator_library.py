"""A library of custom operators as small as it can be, compiled where a test runs.

ONNX Runtime's wheels have no headers, so what is used of its C API is declared here, by place: functions of `OrtApi` in
the order of its first version, which never changes, and callbacks of `OrtCustomOp` as of version 12. `MyErf` in the
domain `my.ops` is the Erf of floats.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

DOMAIN, OPERATOR = "my.ops", "MyErf"

SOURCE = r"""
#include <math.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Status Status;
typedef void *(*Function)(void);
typedef struct { const Function *(*api)(uint32_t version); } Base;
enum { CREATE_DOMAIN = 26, ADD_TO_DOMAIN = 27, ADD_DOMAIN = 28, DATA = 51, RANK = 61, SIZES = 62, COUNT = 64,
       SHAPE = 65, INPUT = 90, OUTPUT = 91, RELEASE_SHAPE = 99 };
enum { VERSION = 12, FLOAT = 1, MOST_AXES = 8 };

typedef struct Operator {
  uint32_t version;
  void *(*create)(const struct Operator *, const Function *, const void *);
  const char *(*name)(const struct Operator *);
  const char *(*provider)(const struct Operator *);
  int (*input_type)(const struct Operator *, size_t);
  size_t (*inputs)(const struct Operator *);
  int (*output_type)(const struct Operator *, size_t);
  size_t (*outputs)(const struct Operator *);
  void (*compute)(void *, void *);
  void (*destroy)(void *);
  int (*input_is_optional)(const struct Operator *, size_t);
  int (*output_is_optional)(const struct Operator *, size_t);
} Operator;

static const Function *api;

#define CALL(place, ...) ((Status *(*)())api[place])(__VA_ARGS__)

static void compute(void *kernel, void *context) {
  void *x, *y, *shape;
  float *from, *to;
  int64_t sizes[MOST_AXES];
  size_t rank, count;
  CALL(INPUT, context, (size_t)0, &x);
  CALL(SHAPE, x, &shape);
  CALL(RANK, shape, &rank);
  CALL(SIZES, shape, sizes, rank);
  CALL(COUNT, shape, &count);
  ((void (*)())api[RELEASE_SHAPE])(shape);
  CALL(OUTPUT, context, (size_t)0, sizes, rank, &y);
  CALL(DATA, x, &from);
  CALL(DATA, y, &to);
  for (size_t i = 0; i < count; i++) to[i] = FACTOR * erff(from[i]);
}

static void *create(const Operator *op, const Function *given, const void *info) { return (void *)op; }
static void destroy(void *kernel) {}
static const char *name(const Operator *op) { return "MyErf"; }
static const char *provider(const Operator *op) { return NULL; }
static int type(const Operator *op, size_t at) { return FLOAT; }
static size_t one(const Operator *op) { return 1; }
static int required(const Operator *op, size_t at) { return 0; }

static const Operator my_erf = {VERSION, create, name, provider, type, one, type, one, compute, destroy, required,
                                required};

Status *RegisterCustomOps(void *options, const Base *base) {
  void *domain;
  Status *wrong;
  api = base->api(API);
  if ((wrong = CALL(CREATE_DOMAIN, "my.ops", &domain))) return wrong;
  if ((wrong = CALL(ADD_TO_DOMAIN, domain, &my_erf))) return wrong;
  return CALL(ADD_DOMAIN, options, domain);
}
"""


def compiled(
    path: Path, source: str = SOURCE, *, factor: float = 1.0, api: int = 12, links: Path | None = None
) -> Path:
    """The library, at `path`. `factor` changes what it computes, `api` is the version of the C API that it asks for,
    and `links` another library that it needs. Skips the test where there is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler (cc, gcc, clang) to make a library of custom operators with")
    path.with_suffix(".c").write_text(source, encoding="utf-8")
    flags = ["-shared", "-fPIC", "-O1", "-w", f"-DFACTOR={factor}f", f"-DAPI={api}", "-o", str(path)]
    subprocess.run(
        [compiler, *flags, str(path.with_suffix(".c")), *([str(links)] if links else []), "-lm"], check=True, timeout=60
    )
    path.with_suffix(".c").unlink()
    return path
