//! The pages in a browser: headless Chromium opens them at the width of a telephone and of a wide
//! screen. No message on the console, every chart drawn, no label over another, nothing wider than
//! the screen, and the script does what it says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails here")]

#[path = "common/calm.rs"]
mod calm;
#[path = "common/needs.rs"]
mod needs;

use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine;
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_msgbench");

const SCENARIO: &str = r#"name = "floor"
question = "What does the harness itself cost, <to the message> & in words that need escaping?"
[[system]]
name = "one"
driver = "null"
[[system]]
name = "a-system-with-a-rather-long-name"
driver = "null"
[[workload]]
pattern = "fan-in"
producers = 1
[workload.load]
rate = "2k/s"
[run]
warmup = "100ms"
duration = "2500ms"
interval = "100ms"
trials = 1
percentiles = [0.5, 0.9, 0.99]
"#;

/// Measures a page within a frame of a given width and puts what it finds into the document.
const PROBE: &str = r#"
addEventListener("load", () => {
  const frame = document.querySelector("iframe");
  const doc = frame.contentDocument, win = frame.contentWindow;
  // What is folded is drawn too.
  doc.querySelectorAll("details").forEach((d) => { d.open = true; });
  const boxes = (root, what) => [...root.querySelectorAll(what)].map((e) => [e.getBoundingClientRect(), e.textContent]);
  const shown = (e) => e.getBoundingClientRect().width > 0;
  const charts = [...doc.querySelectorAll("figure svg[role=img]")].filter(shown).map((svg) => {
    const out = svg.getBoundingClientRect();
    const texts = boxes(svg, "text");
    const collisions = [], outside = [];
    texts.forEach(([a, s], i) => {
      if (a.left < out.left - 1 || a.right > out.right + 1 || a.top < out.top - 1 || a.bottom > out.bottom + 1) outside.push(s);
      texts.slice(i + 1).forEach(([b, t]) => {
        const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (x > 1 && y > 3) collisions.push(s + " / " + t);
      });
    });
    const ink = [...svg.querySelectorAll(".m, .l:not(.grid)")].filter((e) => {
      const b = e.getBoundingClientRect();
      return b.width > 0 || b.height > 0;
    });
    const cells = [...svg.querySelectorAll("path.h0, path.h1, path.h2, path.h3, path.h4, path.h5")].filter((e) => {
      const b = e.getBoundingClientRect(), fill = win.getComputedStyle(e).fill;
      return b.width > 0 && b.height > 0 && fill !== "rgb(0, 0, 0)" && fill !== "none";
    });
    const size = parseFloat(win.getComputedStyle(svg.querySelector("text")).fontSize) * out.width / svg.viewBox.baseVal.width;
    return { figure: svg.closest("figure").id, width: out.width, height: out.height, ink: ink.length, cells: cells.length, collisions, outside, size,
      named: !!svg.querySelector("title").textContent && !!svg.querySelector("desc").textContent };
  });
  const names = [...doc.querySelectorAll("[id]")].map((e) => e.id);
  const result = {
    inner: win.innerWidth, scroll: doc.documentElement.scrollWidth,
    wide: [...doc.querySelectorAll("body *")].filter((e) => !e.closest(".scroll") && e.getBoundingClientRect().right > win.innerWidth + 1)
      .map((e) => e.tagName + " " + e.className).slice(0, 5),
    charts, dark: win.matchMedia("(prefers-color-scheme: dark)").matches,
    paper: win.getComputedStyle(doc.body).backgroundColor,
    figures: doc.querySelectorAll("figure").length,
    twice: names.filter((n, i) => names.indexOf(n) !== i),
    heads: [...doc.querySelectorAll("th")].filter((t) => !t.hasAttribute("scope")).length,
    tables: doc.querySelectorAll("table").length, captions: doc.querySelectorAll("table > caption").length,
    sections: [...doc.querySelectorAll("h2")].map((h) => h.textContent),
  };
  const legend = doc.querySelector(".legend button");
  if (legend) {
    const series = legend.closest("li").dataset.series;
    const group = legend.closest("figure").querySelector(`g[data-series="${series}"]`);
    legend.click();
    result.hides = group.style.display;
    legend.click();
    result.shows = group.style.display;
  }
  const scale = doc.querySelector("button.scale");
  if (scale) {
    scale.click();
    result.linear = shown(scale.closest("figure").querySelector("[data-scale=linear]")) &&
      !shown(scale.closest("figure").querySelector("[data-scale=shown]"));
  }
  const mark = [...doc.querySelectorAll("figure .m")].find(shown);
  if (mark) {
    mark.dispatchEvent(new win.PointerEvent("pointermove", { bubbles: true, clientX: 50, clientY: 50 }));
    const tip = doc.querySelector(".tip");
    result.tip = tip && !tip.hidden ? tip.textContent : "";
  }
  const bytes = new TextEncoder().encode(JSON.stringify(result));
  document.getElementById("result").textContent = btoa(String.fromCharCode(...bytes));
});
"#;

/// What the probe finds on a page; fails where the browser has something to say about it.
fn probed(browser: &Path, page: &Path, width: u32, dark: bool) -> Value {
    probed_by(browser, page, (width, 900), dark, PROBE)
}

fn probed_by(browser: &Path, page: &Path, (width, height): (u32, u32), dark: bool, probe: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(page).unwrap();
    let inner = text.replace('&', "&amp;").replace('"', "&quot;");
    let file = dir.path().join("probe.html");
    let outer = format!(
        "<!doctype html><meta charset=\"utf-8\"><iframe width=\"{width}\" height=\"{height}\" style=\"border:0\" srcdoc=\"{inner}\"></iframe><pre id=\"result\"></pre><script>{probe}</script>"
    );
    std::fs::write(&file, outer).unwrap();
    let mut command = Command::new("timeout");
    command.arg("60").arg(browser).args([
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--enable-logging=stderr",
        "--v=0",
        "--window-size=1700,1000",
        "--dump-dom",
    ]);
    if dark {
        command.arg("--blink-settings=preferredColorScheme=0");
    }
    command.arg(format!("--user-data-dir={}", dir.path().join("profile").display()));
    let output = command.arg(format!("file://{}", file.display())).output().unwrap();
    let (dom, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let console: Vec<&str> = said.lines().filter(|l| l.contains("CONSOLE")).collect();
    assert!(console.is_empty(), "{}: {console:?}", page.display());
    let result = dom.split("id=\"result\">").nth(1).and_then(|r| r.split('<').next()).unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD.decode(result).unwrap();
    serde_json::from_slice(&bytes)
        .unwrap_or_else(|e| panic!("{e}: the probe found nothing in {}: {said}", page.display()))
}

/// Opens a page at both widths; returns what was found on the wide screen.
fn checked(browser: &Path, page: &Path, charts: usize) -> Value {
    let mut wide = Value::Null;
    for (width, dark) in [(400, false), (1600, true)] {
        let found = probed(browser, page, width, dark);
        let at = format!("{} at {width} px: {found:#}", page.display());
        assert_eq!(found["inner"], width, "{at}");
        assert!(found["scroll"].as_u64().unwrap() <= u64::from(width), "wider than the screen: {at}");
        assert_eq!(found["wide"], json!([]), "{at}");
        assert_eq!(found["dark"], dark, "{at}");
        assert_eq!(found["paper"] == "rgb(255, 255, 255)", !dark, "{at}");
        let drawn = found["charts"].as_array().unwrap();
        assert_eq!((drawn.len(), found["figures"].as_u64()), (charts, Some(charts as u64)), "{at}");
        for chart in drawn {
            assert!(chart["width"].as_f64().unwrap() > 300.0 && chart["height"].as_f64().unwrap() > 60.0, "{at}");
            assert!(chart["ink"].as_u64().unwrap() > 0, "an empty chart: {at}");
            assert!(chart["size"].as_f64().unwrap() > 10.0, "too small to read: {at}");
            assert_eq!((&chart["collisions"], &chart["outside"]), (&json!([]), &json!([])), "{at}");
            assert_eq!(chart["named"], true, "{at}");
            let map = chart["figure"].as_str().unwrap();
            let map = map.starts_with("heat-") || map.starts_with("latency-");
            // Two colours at least, or there is nothing to see; and cells nowhere else.
            assert_eq!(chart["cells"].as_u64().unwrap() > 1, map, "cells of a heat map: {at}");
        }
        assert_eq!((&found["twice"], &found["heads"]), (&json!([]), &json!(0)), "{at}");
        assert_eq!(found["tables"], found["captions"], "{at}");
        let tip = found["tip"].as_str().is_some_and(|t| !t.is_empty());
        assert!(tip || charts == 0, "no value under the pointer: {at}");
        wide = found;
    }
    wide
}

fn msgbench(args: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(PROGRAM);
    let _host = calm::calm(&mut command);
    let output = command.args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

/// A real result of two null systems, and copies of it with ten trials whose latencies are scaled
/// by (case, round).
struct Results {
    dir: tempfile::TempDir,
    folder: PathBuf,
}

impl Results {
    fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("floor.toml");
        std::fs::write(&file, format!("{SCENARIO}{more}")).unwrap();
        let out = dir.path().join("results");
        let (code, said) = msgbench(&["run", file.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        assert!(matches!(code, Some(0 | 4)), "{said}");
        let folder = std::fs::read_dir(out.join("floor")).unwrap().next().unwrap().unwrap().path();
        Self { dir, folder }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().into()
    }

    fn copy(&self, name: &str, day: u32, scale: impl Fn(&str, u32) -> f64) -> String {
        let mut record: Value = serde_json::from_slice(&std::fs::read(self.folder.join("run.json")).unwrap()).unwrap();
        let templates = record["trials"].as_array().unwrap().clone();
        let mut trials = Vec::new();
        for round in 1..=10u32 {
            for (i, template) in templates.iter().enumerate() {
                let mut t = template.clone();
                let scale = scale(t["case"].as_str().unwrap(), round) * (1.0 + 0.004 * f64::from(round * 7 % 10));
                t["round"] = json!(round);
                t["started_at"] = json!(format!("2026-11-{day:02}T12:{round:02}:{:02}Z", 20 * i));
                t["outcome"] = json!({"status": "complete"});
                // Two that touch, one at either end: their numbers are not to collide with
                // anything.
                t["events"] = [0.0, 0.9, 0.93, 2.5].map(|s| json!({"at_s": s, "text": "a <stall> begins"})).into();
                t["validity"].as_array_mut().unwrap().iter_mut().for_each(|c| {
                    if c["status"] == "INVALID" {
                        c["status"] = json!("WARN");
                    }
                });
                for kind in t["workloads"][0]["latency"].as_object_mut().unwrap().values_mut() {
                    for p in kind["percentiles"].as_array_mut().unwrap() {
                        // As known as a verdict asks for, and within the curve.
                        let q = p["quantile"].as_f64().unwrap();
                        p["value_ns"] = json!((40_000.0 * scale * -(1.0 - q).ln()) as u64 + 1_000);
                        p["exceedances"] = json!(100.0);
                        p["effective"] = json!(100.0);
                        p["printable"] = json!(true);
                    }
                    let curve = (0..80).map(|i| 1.0 - 0.5f64.powf(f64::from(i) / 8.0));
                    kind["curve"] =
                        curve.map(|q| json!([q, (40_000.0 * scale * -(1.0 - q).ln()) as u64 + 1_000])).collect();
                }
                trials.push(t);
            }
        }
        record["trials"] = json!(trials);
        record["plan"]["trials"] = json!(10);
        record["started_at"] = json!(format!("2026-11-{day:02}T12:00:00Z"));
        let to = self.path(name);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::write(Path::new(&to).join("run.json"), serde_json::to_vec(&record).unwrap()).unwrap();
        // Each round has the intervals and the log of the one that was measured.
        for file in std::fs::read_dir(&self.folder).unwrap().map(|e| e.unwrap().path()) {
            if file.extension().is_some_and(|e| e == "hlog") {
                std::fs::copy(&file, Path::new(&to).join(file.file_name().unwrap())).unwrap();
            }
        }
        let text = std::fs::read_to_string(self.folder.join("intervals.csv")).unwrap();
        let (head, lines) = text.split_once('\n').unwrap();
        let mut table = format!("{head}\n");
        for line in (1..=10).flat_map(|round| lines.lines().map(move |l| l.replacen(",1,", &format!(",{round},"), 1))) {
            table.push_str(&line);
            table.push('\n');
        }
        std::fs::write(Path::new(&to).join("intervals.csv"), table).unwrap();
        to
    }
}

/// What is seen without a click: where the table of the answer ends, how high the page is, how many
/// words stand before the first fold.
const FIRST_SCREEN: &str = r##"
addEventListener("load", () => {
  const doc = document.querySelector("iframe").contentDocument;
  const bottom = (what) => { const e = doc.querySelector(what); return e ? e.getBoundingClientRect().bottom : 1e9; };
  const fold = doc.querySelector("details");
  const range = doc.createRange();
  range.setStart(doc.querySelector("main"), 0);
  range.setEndBefore(fold);
  // Nothing stands between elements: the words of one do not join those of the next.
  const open = range.cloneContents();
  open.querySelectorAll("h1, h2, p, li, tr, caption, .row").forEach((e) => e.append(" "));
  const result = {
    headline: bottom("h1"), pictures: bottom(".cards"), table: bottom(".facts"),
    quote: doc.querySelector("#quote").getBoundingClientRect().top,
    height: doc.documentElement.scrollHeight,
    words: open.textContent.split(/\s+/).filter((w) => w).length,
  };
  document.getElementById("result").textContent = btoa(JSON.stringify(result));
});
"##;

/// The budget of a page: the answer, both pictures and the table within a screen of 1280 x 720,
/// four systems within 6,000 pixels, 400 words before the first fold.
#[test]
fn the_answer_stands_on_the_first_screen() {
    let Some(browser) = needs::chromium() else { return };
    let more: String =
        ["three", "four"].map(|name| format!("[[system]]\nname = \"{name}\"\ndriver = \"null\"\n")).concat();
    let results = Results::new(&more);
    let (code, said) = msgbench(&["report", results.folder.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let found = probed_by(&browser, &results.folder.join("report.html"), (1280, 720), false, FIRST_SCREEN);
    let at = |name: &str| found[name].as_f64().unwrap();
    assert!(at("headline") < at("pictures") && at("pictures") < at("table"), "{found:#}");
    assert!(at("table") <= 720.0, "below the first screen: {found:#}");
    assert!(at("height") < 6_000.0, "{found:#}");
    assert!(at("words") < 400.0, "{found:#}");
}

/// A sweep: latency over offered load, a figure for each percentile with a line for each system.
#[test]
fn a_sweep_has_its_hockey_stick() {
    let Some(browser) = needs::chromium() else { return };
    let sweep = "[sweep]\n\"workload.load.rate\" = [\"500/s\", \"1k/s\", \"2k/s\"]\n\"run.duration\" = [\"400ms\"]\n";
    let results = Results::new(sweep);
    let folder = results.copy("swept", 1, |case, _| if case.contains("2k") { 3.0 } else { 1.0 });
    let (code, said) = msgbench(&["report", &folder]);
    assert_eq!(code, Some(0), "{said}");
    let page = Path::new(&folder).join("report.html");
    // Percentiles; p50 and p99 over load; for each of six cases a heat map and deliveries.
    checked(&browser, &page, 1 + 2 + 6 * 2);
    let text = std::fs::read_to_string(&page).unwrap();
    assert_eq!(text.matches("<figure id=\"capacity-").count(), 2);
    assert!(text.contains("Kept up in every run: one up to 2k/s, a-system-with-a-rather-long-name up to 2k/s."));
}

#[test]
fn pages_open_in_a_browser() {
    let Some(browser) = needs::chromium() else { return };
    let results = Results::new("");
    let page = PathBuf::from(results.path("page.html"));
    let html = page.to_str().unwrap();

    // Two results: a chart of ratios; for each system curves, dots of two metrics, two heat maps,
    // throughput, deliveries over time, costs.
    let main = results.copy("main", 1, |_, _| 1.0);
    // Not the very same runs: a copy has no verdict.
    let pull = results.copy("pull", 1, |case, _| if case == "one" { 1.0005 } else { 1.3 });
    let (code, said) = msgbench(&["compare", &main, &pull, "--html", html]);
    assert_eq!(code, Some(3), "{said}");
    let found = checked(&browser, &page, 1 + 2 * (1 + 2 + 2 + 1 + 1 + 1));
    assert_eq!((found["hides"].as_str(), found["shows"].as_str()), (Some("none"), Some("")), "{found:#}");
    assert_eq!(found["linear"], true, "{found:#}");
    let sections: Vec<&str> = found["sections"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let wanted = ["How large the differences are", "How long messages take", "Rates and cost", "Behind it"];
    assert_eq!(sections, wanted);
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(
        text.contains("<h1><b class=\"word\">▲ REGRESSED</b> a-system-with-a-rather-long-name (pull) is 29."),
        "the sentence first"
    );
    assert!(text.contains("msgbench compare ") && !text.contains("http"), "the command; no address");
    assert!(!text.contains("<to the message>") && text.contains("&lt;to the message&gt; &amp;"));

    // The systems of one result, at the width of one.
    let (code, said) = msgbench(&["compare", &pull, "--html", html]);
    assert_eq!(code, Some(0), "{said}");
    checked(&browser, &page, 1 + 1 + 2 + 2 + 1 + 1 + 1);
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("<summary>Latency over time: a heat map of the median run of each</summary>"));

    // The report of the real run: percentiles, and for each system a heat map, and deliveries with
    // the backlog.
    let folder = results.folder.to_str().unwrap();
    let (code, said) = msgbench(&["report", folder]);
    assert_eq!(code, Some(0), "{said}");
    let charts = std::fs::read_dir(results.folder.join("charts")).unwrap().count() / 2;
    assert!(charts >= 3, "{charts}");
    let report = results.folder.join("report.html");
    // The two of bars are files; on the page they are not drawings.
    checked(&browser, &report, charts - 2);
    let text = std::fs::read_to_string(&report).unwrap();
    assert!(text.find("<h1>").unwrap() < text.find("<h2").unwrap(), "the answer stands first");
    assert!(text.contains("messages in a cell:") && text.contains("longest pause of the host"));

    // Without the interval logs the page says so, and draws the lines of the intervals.
    let elsewhere = PathBuf::from(results.copy("without", 1, |_, _| 1.0));
    for file in std::fs::read_dir(&elsewhere).unwrap().map(|e| e.unwrap().path()) {
        if file.extension().is_some_and(|e| e == "hlog") {
            std::fs::remove_file(file).unwrap();
        }
    }
    let (code, said) = msgbench(&["report", elsewhere.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let text = std::fs::read_to_string(elsewhere.join("report.html")).unwrap();
    assert!(text.contains("No heat map: its interval log is not beside run.json.") && !text.contains("class=\"f h0\""));
}

/// History, with a step that is confirmed.
#[test]
fn a_history_opens_in_a_browser() {
    let Some(browser) = needs::chromium() else { return };
    let results = Results::new("");
    let page = PathBuf::from(results.path("page.html"));
    let html = page.to_str().unwrap();
    let file = results.path("history.jsonl");
    for day in 1..=16 {
        let step = if day > 12 { 1.3 } else { 1.0 };
        let result = results.copy(&format!("day-{day}"), day, |_, _| step * (1.0 + 0.002 * f64::from(day * 7 % 10)));
        let (code, said) = msgbench(&[
            "history", &file, "--add", &result, "--metric", "ack.p50", "--metric", "ack.p99", "--html", html,
        ]);
        assert_eq!(code, Some(0), "{said}");
    }
    checked(&browser, &page, 4);
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("REGRESSED</b> one ack.p99 is 29."), "the change in words");
    assert!(text.find("<h1><b class=\"word\">REGRESSED</b>").unwrap() < text.find("<h2").unwrap(), "the verdict first");
}

/// The pages without a drawing: a review of several scenarios, a certificate. On paper the matrix
/// of a review stands on one sheet.
#[test]
fn a_review_opens_in_a_browser_and_fits_a_sheet() {
    let Some(browser) = needs::chromium() else { return };
    let results = Results::new("");
    let one = results.copy("one", 1, |case, _| if case == "one" { 1.0 } else { 1.4 });
    let two = results.copy("two", 2, |_, _| 1.0);
    let (code, said) = msgbench(&["report", &one]);
    assert_eq!(code, Some(0), "{said}");
    let out = results.path("pages");
    let (code, said) = msgbench(&["review", &one, &two, "--out", &out]);
    assert_eq!(code, Some(0), "{said}");
    let page = Path::new(&out).join("review.html");
    checked(&browser, &page, 0);
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("href=\"../one/report.html\"") && text.contains("msgbench report RESULT renders it"));
    assert!(text.contains("<span class=\"mark\">best</span>"), "the one that is decided is marked");
    let markdown = std::fs::read_to_string(Path::new(&out).join("review.md")).unwrap();
    assert!(markdown.contains("[Report](../one/report.html)") && markdown.contains("| confidence |"), "{markdown}");
    // Without what follows the matrix there is one page, whatever the browser makes of the rest.
    let first = text.replace(
        "</style>",
        "section + section { display: none; } .answer.review { break-after: auto !important; }</style>",
    );
    assert_eq!(sheets(&browser, &first), 1);
    assert!(sheets(&browser, &text) >= 2, "each scenario in sentences follows");
    let (code, said) = msgbench(&["review", &one, &format!("{one}/run.json")]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("is given twice"), "{said}");
}

/// How many sheets of paper a page takes.
fn sheets(browser: &Path, html: &str) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let (page, pdf) = (dir.path().join("page.html"), dir.path().join("page.pdf"));
    std::fs::write(&page, html).unwrap();
    let mut command = Command::new("timeout");
    command.arg("60").arg(browser).args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
    command.arg(format!("--user-data-dir={}", dir.path().join("profile").display()));
    command.arg(format!("--print-to-pdf={}", pdf.display())).arg(format!("file://{}", page.display()));
    let output = command.output().unwrap();
    let bytes = std::fs::read(&pdf).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let text = String::from_utf8_lossy(&bytes);
    text.matches("/Type /Page\n").count().max(text.matches("/Type /Page ").count())
}
