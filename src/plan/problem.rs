//! What is wrong with a setting, without the file that it was read from: where, what, and what to
//! write instead.

/// A mistake of meaning at a key path, such as `workload.0.load.rate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Keys and indices, divided by dots; a dot within a key is [`KEPT_DOT`].
    pub path: String,
    pub message: String,
    pub hint: Option<String>,
    /// Paths of other settings without which it would be no mistake.
    pub beside: Vec<String>,
}

impl Problem {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), hint: None, beside: Vec::new() }
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Says that it is one only beside the setting at this path.
    pub fn beside(mut self, path: impl Into<String>) -> Self {
        self.beside.push(path.into());
        self
    }
}

/// Mistakes, as they are found: one does not hide the next.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub fn add(&mut self, problem: Problem) {
        self.0.push(problem);
    }
    /// The value, where there is one; the mistake is kept.
    pub fn take<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.add(problem)).ok()
    }
}

/// Stands for a dot within a key, in a path whose keys are divided by dots.
pub const KEPT_DOT: &str = "\u{1}";

/// The keys of a path.
pub fn segments(path: &str) -> Vec<String> {
    path.split('.').map(|key| key.replace(KEPT_DOT, ".")).collect()
}

/// "did you mean" with the nearest valid word, else the list of all.
pub fn suggest(wrong: &str, valid: &[&str]) -> Option<String> {
    let near = valid.iter().map(|v| (distance(wrong, v), *v)).min();
    let list = || valid.iter().map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", ");
    match near {
        None => None,
        Some((d, word)) if d <= (word.chars().count() / 3).max(1) => Some(format!("did you mean `{word}`?")),
        Some(_) => Some(format!("valid here: {}", list())),
    }
}

/// Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("paylod", "payload"), 1);
        assert_eq!(distance("rtae", "rate"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(suggest("zzzzzz", &["rate"]).unwrap(), "valid here: `rate`");
    }
}
