#!/usr/bin/env python3
"""Keeps a result of `msgbench claims run` in the repository: keep_claims.py [--quick] NAME [OUT [TO]]

OUT is what `--out` was, `results/claims` where absent; TO is the folder that gets NAME/, OUT/kept
where absent. Kept are the pages of the verdicts, and of each measurement that they look at the
newest result: its report as Markdown and its record, packed. Not kept are interval logs, intervals,
charts and HTML reports, which are most of the bytes. A result that names this machine is refused.
"""

import argparse
import json
import lzma
import os
import pathlib
import re
import shutil
import socket
import sys

# What a repository can bear.
MOST_BYTES = 5 << 20


def private(text, what):
    """What the text says of this machine, each once."""
    words = {str(pathlib.Path.cwd()), str(pathlib.Path.home()), os.environ.get("USER", ""), socket.gethostname()}
    # Names that are words of the field say nothing.
    words = {w for w in words if len(w) > 3 and w not in ("localhost", "root", "/root")}
    folders = set(re.findall(r"(?<![\w:/.])/(?:home|root|work|Users)/[\w./+-]*", text))
    return [f"{what}: {w}" for w in sorted({w for w in words if w in text} | folders)]


def neutral(text):
    """Without the folders of this machine."""
    for name, value in os.environ.items():
        if name.startswith("MSGBENCH_") and value.startswith("/"):
            text = text.replace(value, f"${name}")
    text = re.sub(r"(?<![\w:/.])(?:/[\w.+-]+)+/msgbench(?:-[\w.]+)?(?=[ \"])", "msgbench", text)
    text = text.replace(f"{pathlib.Path.cwd()}/", "")
    return re.sub(r"/tmp/[A-Za-z0-9._/-]*", "/tmp/...", text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("name")
    parser.add_argument("out", nargs="?", default="results/claims")
    parser.add_argument("to", nargs="?")
    args = parser.parse_args()
    form, suffix = ("quick", "-quick") if args.quick else ("full", "")
    source = pathlib.Path(args.out) / args.name
    target = pathlib.Path(args.to or pathlib.Path(args.out) / "kept") / args.name
    pages = {kind: (source / f"claims{suffix}.{kind}") for kind in ("html", "md", "xml", "json")}
    absent = [str(p) for p in pages.values() if not p.is_file()]
    if absent:
        sys.exit(f"not there: {', '.join(absent)}; run `msgbench claims run` first")
    files, links, found = {}, {}, []
    claims = json.loads(pages["json"].read_text())["claims"]
    used = {m for claim in claims for m in claim["measures"]}
    # "nats-latency < 100us": the method stands first.
    methods = {re.match(r"[^\s<>=!]*", second["that"])[0] for claim in claims for second in claim["second"]}
    for measure in sorted(used):
        kept = source / form / measure / "kept.json"
        if not kept.is_file():
            print(f"{measure}: not run, and so not kept", file=sys.stderr)
            continue
        result = source / form / measure / json.loads(kept.read_text())["result"]
        absent = [str(result / name) for name in ("run.json", "report.md") if not (result / name).is_file()]
        if absent:
            sys.exit(f"not there: {', '.join(absent)}; `msgbench claims run` measures {measure} again")
        record = neutral(json.dumps(json.loads((result / "run.json").read_text()), separators=(",", ":")))
        report = neutral((result / "report.md").read_text())
        found += private(record, f"run.json of {measure}") + private(report, f"report.md of {measure}")
        files[f"{form}/{measure}/run.json.xz"] = lzma.compress(record.encode(), preset=9)
        # Charts are not kept.
        report = re.sub(r"^!\[.*\]\(charts/.*\)\n+", "", report, flags=re.M)
        files[f"{form}/{measure}/report.md"] = report.encode()
        links[f"{result.relative_to(source)}/report.html"] = f"{form}/{measure}/report.md"
    for method in sorted(methods):
        file = source / form / "second" / f"{method}.json"
        if not file.is_file():
            print(f"{method}: not run, and so not kept", file=sys.stderr)
            continue
        text = neutral(file.read_text())
        found += private(text, f"what {method} said")
        files[f"{form}/second/{file.name}"] = text.encode()
    for path in pages.values():
        text = neutral(path.read_text())
        for link, kept in links.items():
            text = text.replace(link, kept)
        found += private(text, path.name)
        files[path.name] = text.encode()
    if found:
        sys.exit("this machine is named in " + "; ".join(found))
    total = sum(len(bytes) for bytes in files.values())
    if total > MOST_BYTES:
        sys.exit(f"{total} bytes are more than {MOST_BYTES}: nothing was kept")
    # What an earlier result had and this one has not would be taken for a part of it.
    shutil.rmtree(target / form, ignore_errors=True)
    for name, content in files.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    print(f"{target}: {len(files)} files, {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
