//! Every vector of `vectors.json`, held to the digits printed there. They were computed with scipy,
//! statsmodels, Apache Otava and mpmath.

use serde_json::Value;

use super::*;

fn all() -> Value {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}
fn f(v: &Value) -> f64 {
    v.as_f64().unwrap_or_else(|| panic!("{v} is not a number"))
}
fn fs(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(f).collect()
}
fn u(v: &Value) -> u64 {
    v.as_u64().unwrap_or_else(|| panic!("{v} is not a count"))
}

/// Equal to the digits printed: half a unit of the last one.
#[track_caller]
fn same(found: f64, printed: &Value) {
    let text = printed.to_string();
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let decimals = mantissa.split_once('.').map_or(0, |(_, d)| d.len() as i32);
    let unit = 10f64.powi(exponent.parse::<i32>().unwrap() - decimals);
    // Of a double printed in full the last digits are rounding that depends on the order of
    // additions: twelve are held.
    let slack = (0.5000001 * unit).max(f(printed).abs() * 1e-12);
    assert!((found - f(printed)).abs() <= slack, "{found} is not {text}");
}
#[track_caller]
fn pair(found: (f64, f64), printed: &Value) {
    same(found.0, &printed[0]);
    same(found.1, &printed[1]);
}
fn quantile_of(name: &str) -> f64 {
    // 99.9 / 100 is not the double nearest to 0.999.
    (name.trim_start_matches('p').parse::<f64>().unwrap() * 100.0).round() / 10_000.0
}

#[test]
fn order_statistic_intervals() {
    let list = all();
    for v in list["order_statistic_ci_iid_equal_tail_95"].as_array().unwrap() {
        let r = quantile::order_statistics(u(&v["n"]), f(&v["p"]), 0.05);
        assert_eq!((r.low, r.high), (v["j"].as_u64(), v["k"].as_u64()), "{v}");
        same(r.coverage, &v["coverage"]);
    }
    // Table A1.1: the upper end is unbounded.
    let r = quantile::order_statistics(1000, 0.999, 0.05);
    assert_eq!((r.low, r.high), (Some(997), None));
    for (name, by) in list["order_statistic_min_n"]["one_sided_upper_is_max"].as_object().unwrap() {
        for (confidence, n) in by.as_object().unwrap() {
            assert_eq!(quantile::samples_for_upper_bound(quantile_of(name), confidence.parse().unwrap()), u(n));
        }
    }
    for (name, n) in list["order_statistic_min_n"]["two_sided_95_finite"].as_object().unwrap() {
        assert_eq!(quantile::samples_for_interval(quantile_of(name), 0.95), u(n));
    }
}

#[test]
fn early_stopping() {
    let list = all();
    for (name, by) in list["mlperf_early_stopping_total_queries_c99_d0"].as_object().unwrap() {
        for (over, total) in by.as_object().unwrap() {
            let over: u64 = over.parse().unwrap();
            assert_eq!(limit::messages_within(over, quantile_of(name), 0.99) + over, u(total), "{name}, {over}");
        }
    }
    for v in list["mlperf_max_overlatency"].as_array().unwrap() {
        let t = limit::most_over(u(&v["q"]), f(&v["p"]), 0.99).unwrap();
        assert_eq!((t, u(&v["q"]) - t + 1), (u(&v["t"]), u(&v["report_rank"])), "{v}");
    }
}

#[test]
fn block_interval() {
    let v = &all()["block_indicator_ci"];
    let per = u(&v["per_block"]);
    let blocks: Vec<_> =
        v["exceed"].as_array().unwrap().iter().map(|e| quantile::TimeBlock { count: per, above: u(e) }).collect();
    let found = quantile::block_interval(&blocks, f(&v["p"]), 0.05).unwrap();
    assert_eq!(blocks.len() as u64, u(&v["B"]));
    same(found.variance, &v["V"]);
    same(found.phi, &v["phi"]);
    same(found.effective, &v["n_eff"]);
    same(dist::t_quantile(0.975, 9.0), &v["t"]);
    same(found.half_width, &v["h"]);
    assert_eq!(found.ranks, (v["j"].as_u64(), v["k"].as_u64()));
    assert!(!found.reliable, "ten blocks are too few");
    let (j, k) = quantile::normal_ranks(10_000, 0.99, 0.05);
    assert_eq!((j, k), (f(&v["iid_j"]), f(&v["iid_k"])));
}

#[test]
fn two_samples() {
    let v = &all()["two_sample"];
    let (a, b, c) = (fs(&v["A"]), fs(&v["B"]), fs(&v["C"]));
    let ln = |x: &[f64]| x.iter().map(|v| v.ln()).collect::<Vec<_>>();
    let logs = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| y.ln() - x.ln()).collect::<Vec<_>>();
    for (other, name) in [(&b, "AB"), (&c, "AC")] {
        let test = ranks::mann_whitney(&a, other).unwrap();
        assert_eq!(test.statistic, f(&v[format!("mwu_exact_{name}")]["U_A"]));
        same(test.p, &v[format!("mwu_exact_{name}")]["p"]);
        let hl = &v[format!("hl_ratio_{name}")];
        let found = shift::ratio(&a, other, 0.95).unwrap();
        same(found.value, &hl["est"]);
        pair(found.interval.unwrap(), &hl["ci95"]);
        pair(shift::ratio(&a, other, 0.90).unwrap().interval.unwrap(), &hl["ci90"]);
        let w = &v[format!("welch_log_{name}")];
        let t = ranks::welch(&ln(&a), &ln(other));
        same(t.t, &w["t"]);
        same(t.df, &w["df"]);
        same(t.p, &w["p"]);
        let (difference, half) = (mean(&ln(other)) - mean(&ln(&a)), dist::t_quantile(0.975, t.df) * t.error);
        pair(((difference - half).exp(), (difference + half).exp()), &w["ratio_ci95"]);
        let s = &v[format!("wilcoxon_signed_log_{name}")];
        let signed = ranks::signed_rank(&logs(&a, other)).unwrap();
        assert_eq!(signed.statistic, f(&s["W"]));
        same(signed.p, &s["p"]);
    }
    let found = shift::shift(&a, &b, 0.95).unwrap();
    same(found.value, &v["hl_shift_AB"]["est"]);
    pair(found.interval.unwrap(), &v["hl_shift_AB"]["ci95"]);
    let flips = ranks::sign_flip(&logs(&a, &b)).unwrap();
    assert_eq!(
        (flips.extreme, flips.total),
        (u(&v["signflip_mean_log_AB"]["extreme"]), u(&v["signflip_mean_log_AB"]["total"]))
    );
    same(ranks::cliffs_delta(&a, &b), &v["cliffs_delta_AB"]);
    let (ratio, low, high) = ranks::fieller(&a, &b, 0.95).unwrap();
    same(ratio, &v["fieller_mean_ratio_AB"]["ratio"]);
    pair((low, high), &v["fieller_mean_ratio_AB"]["ci95"]);
    // The published vectors of Go's statistics tests (stats.md A7).
    let go = |a: &[f64], b: &[f64]| ranks::mann_whitney(a, b).unwrap();
    let first = go(&[2., 1., 3., 5.], &[12., 11., 13., 15.]);
    assert!(first.statistic == 0.0 && (first.p - 0.028_571_428_571).abs() < 1e-12);
    let second = go(&[2., 1., 3., 5.], &[0., 4., 6., 7.]);
    assert!(second.statistic == 5.0 && (second.p - 0.485_714_285_714).abs() < 1e-12);
    let (l1, l2): (Vec<f64>, Vec<f64>) =
        ((0..500).map(|i| f64::from(2 * i)).collect(), (0..600).map(|i| f64::from(2 * i - 41)).collect());
    let third = go(&l1, &l2);
    assert!(third.statistic == 135_250.0 && (third.p - 0.004_933_536_081_4).abs() < 1e-13, "{third:?}");
    let t = ranks::welch(&[2., 1., 3., 4.], &[6., 5., 7., 9.]);
    assert!((t.t + 3.970_344_615_2).abs() < 1e-10 && (t.df - 5.584_615_384_6).abs() < 1e-10);
    assert!((t.p - 0.008_512_863_13).abs() < 1e-11);
}

#[test]
fn hodges_lehmann_indices_and_smallest_p() {
    let list = all();
    for (n, row) in list["hl_ci_c_index"].as_object().unwrap().iter().filter(|(n, _)| *n != "comment") {
        let n: usize = n.parse().unwrap();
        for (confidence, cell) in [0.90, 0.95, 0.99].into_iter().zip(row.as_array().unwrap()) {
            match shift::interval_index(n, n, confidence) {
                None => assert!(cell.is_null(), "{n} {confidence}"),
                Some((c, achieved)) => {
                    assert_eq!(c as u64, u(&cell[0]), "{n} {confidence}");
                    same(achieved, &cell[1]);
                }
            }
        }
    }
    for (n, p) in list["min_mwu_p"].as_object().unwrap() {
        let n: usize = n.parse().unwrap();
        same(ranks::smallest_p(n, n), p);
    }
}

#[test]
fn multiple_comparisons() {
    let v = &all()["multiple_comparisons"];
    let (p, alpha) = (fs(&v["p"]), f(&v["alpha"]));
    let rejects = |adjusted: &[f64]| adjusted.iter().filter(|a| **a <= alpha).count() as u64;
    let (holm, bh, by) = (multiple::holm(&p), multiple::benjamini_hochberg(&p), multiple::benjamini_yekutieli(&p));
    assert_eq!(rejects(&multiple::bonferroni(&p)), u(&v["bonferroni_rejects"]));
    assert_eq!(rejects(&holm), u(&v["holm_rejects"]));
    assert_eq!(rejects(&bh), u(&v["bh_rejects"]));
    for (found, key) in [(&holm, "holm_adj_first6"), (&bh, "bh_adj_first6"), (&by, "by_adj_first3")] {
        v[key].as_array().unwrap().iter().zip(found.iter()).for_each(|(printed, found)| same(*found, printed));
    }
}

#[test]
fn variance_levels_outliers_and_bounds() {
    let list = all();
    let v = &list["kalibera_jones"];
    let runs: Vec<Vec<f64>> = v["Y"].as_array().unwrap().iter().map(fs).collect();
    let found = variance::levels(&runs).unwrap();
    for (value, key) in [
        (found.s1, "S1sq"),
        (found.s2, "S2sq"),
        (found.t1, "T1sq"),
        (found.t2, "T2sq"),
        (found.mean, "grand_mean"),
        (found.half_width, "ci95_half"),
    ] {
        same(value, &v[key]);
    }
    assert_eq!(found.iterations(30.0), v["opt_inner_reps_when_new_run_costs_30"].as_u64());
    let bounds = &list["bencher_thresholds"];
    pair(variance::normal_bounds(100.0, 10.0, 0.977), &bounds["z_977_mean100_sd10"]);
    same(
        variance::prediction_bounds(100.0, 10.0, 25, 0.977).1,
        &bounds["t_977_n25_mean100_sd10_prediction_interval_upper"],
    );
    // stats.md A11.
    let sample = [10., 11., 11.5, 12., 12.2, 12.4, 12.9, 13., 14., 20., 30.];
    let fences = variance::fences(&sample).unwrap();
    assert_eq!((fences.mild, fences.severe), ((9.125, 16.125), (6.5, 18.75)));
    assert_eq!(variance::far_from_median(&sample), [10]);
}

/// Otava's p-value: the pooled test fed with the population's variance.
fn otava(left: &[f64], right: &[f64]) -> f64 {
    let population = |x: &[f64]| sample_variance(x) * (x.len() as f64 - 1.0) / x.len() as f64;
    let (n, m) = (left.len() as f64, right.len() as f64);
    let v = ((n - 1.0) * population(left) + (m - 1.0) * population(right)) / (n + m - 2.0);
    dist::t_two_sided((mean(left) - mean(right)) / (v * (1.0 / n + 1.0 / m)).sqrt(), n + m - 2.0)
}

#[test]
fn change_points() {
    let list = all();
    let v = &list["edivisive"];
    let x = fs(&v["series"]);
    for (name, printed) in v["Q"].as_object().unwrap() {
        let at: Vec<usize> =
            name.split(',').map(|p| p.trim_start_matches(char::is_alphabetic).parse().unwrap()).collect();
        same(change::divergence(&x, at[0], at[1], at[2]).unwrap(), printed);
    }
    assert_eq!(change::first_candidate(&x).unwrap().1, 5);
    let settings = change::ChangeSettings { max_p: 1e-3, min_change: 0.0 };
    let indices =
        |x: &[f64], settings| change::change_points(x, settings).iter().map(|c| c.index as u64).collect::<Vec<_>>();
    let printed = |v: &Value| v.as_array().unwrap().iter().map(u).collect::<Vec<_>>();
    assert_eq!(indices(&x, settings), printed(&v["change_points"]));
    same(otava(&x[..5], &x[5..8]), &v["otava_p"][0]);
    same(otava(&x[5..8], &x[8..]), &v["otava_p"][1]);
    for v in list["otava_examples"].as_array().unwrap() {
        if let Some(series) = v.get("series") {
            let x = fs(series);
            let found = change::change_points(&x, settings);
            assert_eq!(found.iter().map(|c| c.index as u64).collect::<Vec<_>>(), printed(&v["cps"]), "{v}");
            let at = found[0].index;
            same(otava(&x[..at], &x[at..]), &v["p_otava"]);
            if v.get("first_qhat").is_some() {
                same(change::first_candidate(&x).unwrap().0, &v["first_qhat"]);
                same(found[0].before, &v["mean1"]);
                same(found[0].after, &v["mean2"]);
            }
        } else {
            let (left, right) = (fs(&v["left"]), fs(&v["right"]));
            same(otava(&left, &right), &v["p_otava_ddof0"]);
            same(ranks::pooled(&left, &right).p, &v["p_pooled_ddof1"]);
            same(ranks::welch(&left, &right).p, &v["p_welch"]);
        }
    }
    // Otava's test of its smallest magnitude keeps series1 (a fall to a half) and drops series2
    // (one by a tenth).
    let large = change::ChangeSettings { max_p: 1e-3, min_change: 0.2 };
    let examples = &list["otava_examples"];
    assert_eq!(indices(&fs(&examples[1]["series"]), large), [6]);
    let relative: Vec<f64> = fs(&examples[2]["series"]).iter().map(|v| v.ln()).collect();
    assert!(indices(&relative, large).is_empty());
}

#[test]
fn steadiness() {
    let v = &all()["stationarity"];
    let flat = fs(&v["flat"]["x"]);
    let up: Vec<f64> = flat.iter().enumerate().map(|(i, x)| x + 0.5 * i as f64).collect();
    let extra = [40., 25., 15., 9., 5., 3., 2., 1.];
    let warm: Vec<f64> = flat.iter().enumerate().map(|(i, x)| x + extra.get(i).unwrap_or(&0.0)).collect();
    for (name, x) in [("flat", &flat), ("up", &up), ("warm", &warm)] {
        let v = &v[name];
        let trend = series::trend(x).unwrap();
        assert_eq!(trend.s as f64, f(&v["mk_S"]));
        same(trend.variance, &v["mk_var"]);
        same(trend.z, &v["mk_Z"]);
        same(trend.p, &v["mk_p"]);
        same(trend.slope, &v["theil_sen"]);
        // Printed as 0.104 for 0.104000.
        assert!((series::kpss(x, 3) - f(&v["kpss_l3"])).abs() < 6e-7, "{name}");
        assert_eq!(series::mser(x, 1).unwrap().drop as u64, u(&v["mser1_d"]), "{name}");
    }
    let tiny = series::mser(&fs(&v["mser_tiny"]["x"]), 1).unwrap();
    assert_eq!((tiny.drop as u64, tiny.unsteady), (u(&v["mser_tiny"]["d"]), false));
    same(tiny.statistic, &v["mser_tiny"]["stat"]);
}

/// The minimal standard generator of C++11, from seed 1.
fn minstd(n: usize) -> (u64, Vec<f64>) {
    let mut x = 1u64;
    let list = (0..n)
        .map(|_| {
            x = x * 48271 % 2_147_483_647;
            x as f64 / 2_147_483_647.0
        })
        .collect();
    (x, list)
}

#[test]
fn arrival_processes() {
    let v = &all()["minstd"];
    assert_eq!(minstd(10_000).0, u(&v["raw_10000"]));
    let uniform = minstd(1000).1;
    let gaps: Vec<f64> = uniform.iter().map(|u| -u.ln()).collect();
    let a2 = arrivals::anderson_darling_exponential;
    same(a2(&gaps), &v["A2_expon_of_first_1000_exp"]);
    same(a2(&uniform), &v["A2_of_uniform_gaps"]);
    let coarse: Vec<f64> = gaps.iter().map(|g| (g / 0.1).ceil() * 0.1).collect();
    same(a2(&coarse), &v["A2_ceil_to_0_1_mean"]);
    // The table of acceptance of the index of dispersion, stats.md A5.
    for (m, low, high) in [(100, 0.741, 1.297), (1000, 0.914, 1.090)] {
        let (l, h) = arrivals::dispersion_bounds(m);
        assert!((l - low).abs() < 5.1e-4 && (h - high).abs() < 5.1e-4, "{l} {h}");
    }
    let counts: Vec<f64> = (0..100).map(|_| 5.0).collect();
    assert_eq!(arrivals::index_of_dispersion(&counts), 0.0);
    // Spearman's correlation of neighbours, stats.md A5: noise and an autoregression of 0.5.
    let twice = minstd(2000).1;
    let normal: Vec<f64> =
        twice.chunks(2).map(|c| (-2.0 * c[0].ln()).sqrt() * (2.0 * std::f64::consts::PI * c[1]).cos()).collect();
    let mut last = 0.0;
    let regression: Vec<f64> = normal
        .iter()
        .map(|z| {
            last = 0.5 * last + z;
            last
        })
        .collect();
    assert!((series::spearman_lag1(&normal) - 0.023_279_68).abs() < 5e-9);
    assert!((series::spearman_lag1(&regression) - 0.491_102_90).abs() < 5e-9);
}

#[test]
fn queues_and_stalls() {
    let list = all();
    let quantiles = [0.5, 0.9, 0.99, 0.999, 0.9999];
    for (rho, row) in list["queue_sojourn"]["MD1_units_of_D"].as_object().unwrap() {
        let rho: f64 = rho.parse().unwrap();
        let row = row.as_array().unwrap();
        // The table has eight significant digits.
        let close = |found: f64, printed: &Value| assert!((found / f(printed) - 1.0).abs() < 6e-8, "{found} {printed}");
        close(queue::mg1_mean_sojourn(rho, 0.0), &row[0]);
        quantiles.iter().zip(&row[1..]).for_each(|(p, printed)| close(queue::md1_sojourn(rho, *p), printed));
    }
    for (rho, row) in
        [(0.5, [1.3863, 4.6052, 9.2103, 13.8155, 18.4207]), (0.8, [3.4657, 11.5129, 23.0259, 34.5388, 46.0517])]
    {
        for (p, printed) in quantiles.into_iter().zip(row) {
            assert!((queue::mm1_sojourn(rho, p) - printed).abs() < 5.1e-5);
        }
    }
    for v in list["stall"].as_array().unwrap() {
        let stall =
            queue::StallModel { rate: f(&v["lam"]), service: f(&v["s"]), length: f(&v["T"]), stall: f(&v["S"]) };
        for (p, key) in [(0.99, "p99"), (0.995, "p99_5"), (0.999, "p99_9"), (0.9999, "p99_99")] {
            assert!((stall.latency(p) - f(&v[key])).abs() < 5.1e-7, "{key} {} {}", stall.latency(p), v[key]);
        }
        same(stall.max(), &v["max"]);
    }
}
