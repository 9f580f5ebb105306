//! A comparison as CSV (RFC 4180): one line for each metric, every figure in the unit of its
//! column.

use crate::compare::Comparison;

/// The table. An infinite number is `inf`, an absent one empty.
///
/// # Errors
/// When a line cannot be encoded.
pub fn page(c: &Comparison) -> Result<String, String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let head = [
        "scenario",
        "metric",
        "unit",
        "primary",
        "baseline",
        "candidate",
        "n_baseline",
        "n_candidate",
        "median_baseline",
        "median_candidate",
        "ratio",
        "ratio_ci95_low",
        "ratio_ci95_high",
        "ratio_ci90_low",
        "ratio_ci90_high",
        "shift",
        "test",
        "p_raw",
        "p_adjusted",
        "correction",
        "p_paired",
        "cliffs_delta",
        "max_change",
        "verdict",
        "runs_needed",
        "runs_needed_seen",
        "reason",
        "doubts",
    ];
    let doubts = c.doubts.iter().map(crate::report::pages::comparison::doubt).collect::<Vec<_>>().join("; ");
    writer.write_record(head).map_err(|e| e.to_string())?;
    for r in &c.rows {
        let number = |v: Option<f64>| v.map_or_else(String::new, |v| v.to_string());
        let ci = |v: Option<(f64, f64)>| (number(v.map(|v| v.0)), number(v.map(|v| v.1)));
        let (low95, high95) = ci(r.ratio.and_then(|e| e.ci95));
        let (low90, high90) = ci(r.ratio.and_then(|e| e.ci90));
        let line = [
            r.scenario.clone(),
            r.metric.to_string(),
            r.unit.clone(),
            r.primary.to_string(),
            r.a.label.clone(),
            r.b.label.clone(),
            r.a.n.to_string(),
            r.b.n.to_string(),
            number(r.a.median),
            number(r.b.median),
            number(r.ratio.map(|e| e.value)),
            low95,
            high95,
            low90,
            high90,
            number(r.shift.map(|e| e.value)),
            r.test.clone(),
            number(r.p_raw),
            number(r.p_adjusted),
            r.correction.clone(),
            number(r.p_paired),
            number(r.cliffs_delta),
            r.max_change.to_string(),
            r.word().to_string(),
            r.runs_needed.map_or_else(String::new, |n| n.to_string()),
            r.runs_needed_seen.map_or_else(String::new, |n| n.to_string()),
            r.reason.clone(),
            doubts.clone(),
        ];
        writer.write_record(&line).map_err(|e| e.to_string())?;
    }
    let bytes = writer.into_inner().map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|e| e.to_string())
}
