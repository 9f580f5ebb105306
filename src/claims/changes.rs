//! Two results of claims side by side: which verdicts are the same, and which changed. Between the
//! quick and the full form, another day, another host or version.

use serde::Deserialize;

use super::result::{ClaimWord, SCHEMA};
use super::sentence::plain;

/// Verdicts as `claims.json` keeps them, as far as they are compared.
#[derive(Debug, Clone, Deserialize)]
pub struct SavedOutcomes {
    schema: String,
    name: String,
    sha256: String,
    quick: bool,
    claims: Vec<SavedClaim>,
}

#[derive(Debug, Clone, Deserialize)]
struct SavedClaim {
    id: u32,
    says: String,
    verdict: ClaimWord,
    reason: String,
}

impl SavedOutcomes {
    /// Reads them.
    ///
    /// # Errors
    /// Why it is no result of claims.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let all: Self = serde_json::from_slice(bytes).map_err(|e| format!("it is no result of claims: {e}"))?;
        match all.schema == SCHEMA {
            true => Ok(all),
            false => Err(format!("its schema is {}, and this program reads {SCHEMA}", all.schema.escape_debug())),
        }
    }

    fn form(&self) -> &'static str {
        if self.quick { "quick form" } else { "full form" }
    }
}

/// What two results have in common, and in what they differ.
#[derive(Debug)]
pub struct ClaimChanges<'a> {
    before: &'a SavedOutcomes,
    after: &'a SavedOutcomes,
    both: Vec<(&'a SavedClaim, &'a SavedClaim)>,
}

impl<'a> ClaimChanges<'a> {
    /// Puts them side by side, claim by claim.
    ///
    /// # Errors
    /// When they are not about the same claims.
    pub fn of(before: &'a SavedOutcomes, after: &'a SavedOutcomes) -> Result<Self, String> {
        if before.name != after.name {
            let (a, b) = (before.name.escape_debug(), after.name.escape_debug());
            return Err(format!("one is of `{a}` and the other of `{b}`: their claims are not the same"));
        }
        let other = |claim: &'a SavedClaim| Some((claim, after.claims.iter().find(|c| c.id == claim.id)?));
        let both: Vec<_> = before.claims.iter().filter_map(other).collect();
        match both.is_empty() {
            true => Err("no claim is in both of them".into()),
            false => Ok(Self { before, after, both }),
        }
    }

    /// Those whose verdict is another.
    fn changed(&self) -> impl Iterator<Item = &(&'a SavedClaim, &'a SavedClaim)> {
        self.both.iter().filter(|(a, b)| a.verdict != b.verdict)
    }

    /// Whether a verdict is another.
    pub fn any(&self) -> bool {
        self.changed().next().is_some()
    }

    /// What is to be said of them.
    pub fn words(&self) -> String {
        let (same, changed) = (self.both.len() - self.changed().count(), self.changed().count());
        let mut text = format!(
            "Before: {}; after: {}. Of {} in both, {same} have the same verdict and {changed} another.\n",
            self.before.form(),
            self.after.form(),
            crate::units::plural(self.both.len() as u64, "claim"),
        );
        if self.before.sha256 != self.after.sha256 {
            text.push_str("The file of claims is not the same: a rule or a setting may have changed.\n");
        }
        for (a, b) in self.changed() {
            let said =
                if a.says == b.says { String::new() } else { format!(" (before: \u{201c}{}\u{201d})", plain(&a.says)) };
            text.push_str(&format!(
                "\n{:>3}  {} \u{2192} {}  \u{201c}{}\u{201d}{said}\n     before: {}\n     after: {}\n",
                a.id,
                a.verdict.word(),
                b.verdict.word(),
                plain(&b.says),
                plain(&a.reason),
                plain(&b.reason)
            ));
        }
        for (words, one, other) in [("before", self.before, self.after), ("after", self.after, self.before)] {
            let alone = one.claims.iter().filter(|c| other.claims.iter().all(|o| o.id != c.id));
            let ids: Vec<String> = alone.map(|c| c.id.to_string()).collect();
            if !ids.is_empty() {
                text.push_str(&format!("\nonly {words}: {}\n", ids.join(", ")));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Form, sample};
    use super::*;

    /// As `claims run` writes it, and reads it again.
    fn saved(form: Form, edit: impl FnOnce(&mut serde_json::Value)) -> SavedOutcomes {
        let mut json = serde_json::to_value(sample::outcomes(30, form)).unwrap();
        edit(&mut json);
        SavedOutcomes::read(&serde_json::to_vec(&json).unwrap()).unwrap()
    }

    /// Ten rounds are not certain beside thirty other tests, which the quick form does not ask.
    #[test]
    fn verdicts_that_changed_are_named() {
        let (quick, full) = (saved(Form::Quick, |_| {}), saved(Form::Full, |_| {}));
        let changes = ClaimChanges::of(&quick, &full).unwrap();
        assert!(changes.any());
        insta::assert_snapshot!(changes.words());
        let same = ClaimChanges::of(&quick, &quick).unwrap();
        assert!(!same.any());
        let words =
            "Before: quick form; after: quick form. Of 7 claims in both, 7 have the same verdict and 0 another.\n";
        assert_eq!(same.words(), words);
    }

    /// A file from elsewhere moves no cursor and paints nothing.
    #[test]
    fn control_characters_are_not_shown() {
        let evil = |json: &mut serde_json::Value| {
            for key in ["says", "reason"] {
                json["claims"][0][key] = "a\u{1b}[2Jb\rc\u{9b}d".into();
            }
            json["claims"][0]["verdict"] = "refuted".into();
        };
        let (good, bad) = (saved(Form::Quick, |_| {}), saved(Form::Quick, evil));
        for (before, after) in [(&good, &bad), (&bad, &good)] {
            let words = ClaimChanges::of(before, after).unwrap().words();
            assert!(words.contains("a [2Jb c d"), "{words:?}");
            assert!(words.chars().all(|c| c == '\n' || !c.is_control()), "{words:?}");
        }
    }

    #[test]
    fn claims_of_one_result_alone_are_named_and_others_are_refused() {
        let all = saved(Form::Quick, |_| {});
        let few = saved(Form::Quick, |json| {
            json["claims"].as_array_mut().unwrap().retain(|c| c["id"] == 2 || c["id"] == 6);
            json["sha256"] = "another".into();
        });
        let words = ClaimChanges::of(&all, &few).unwrap().words();
        assert!(
            words.contains("Of 2 claims in both, 2 have") && words.contains("only before: 1, 3, 4, 5, 7"),
            "{words}"
        );
        assert!(words.contains("The file of claims is not the same"), "{words}");
        let words = ClaimChanges::of(&few, &all).unwrap().words();
        assert!(words.contains("only after: 1, 3, 4, 5, 7"), "{words}");
        let other = saved(Form::Quick, |json| json["name"] = "other".into());
        assert!(ClaimChanges::of(&all, &other).unwrap_err().contains("`two` and the other of `other`"));
        let none = saved(Form::Quick, |json| json["claims"] = serde_json::json!([]));
        assert_eq!(ClaimChanges::of(&all, &none).unwrap_err(), "no claim is in both of them");
        assert!(SavedOutcomes::read(b"{}").unwrap_err().contains("no result of claims"));
        let next =
            serde_json::json!({"schema": "msgbench.claims/9", "name": "n", "sha256": "", "quick": true, "claims": []});
        assert!(SavedOutcomes::read(next.to_string().as_bytes()).unwrap_err().contains("msgbench.claims/9"));
    }
}
