//! Settings as they are recorded.

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}

/// How many settings a file of properties has: each stands on a line of its own.
#[cfg(feature = "kafka")]
pub(super) fn of_properties(text: &str) -> u32 {
    u32::try_from(lines(text).count()).unwrap_or(u32::MAX)
}

/// How many settings a file of blocks has: each is a name with a colon, and a colon in quotes is of
/// a value.
pub(super) fn of_blocks(text: &str) -> u32 {
    let colons = |line: &str| line.split('"').step_by(2).map(|part| part.matches(':').count()).sum::<usize>();
    u32::try_from(lines(text).map(colons).sum::<usize>()).unwrap_or(u32::MAX)
}

/// A JSON value as people write it: strings without quotes.
pub(super) fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_files_are_counted() {
        let blocks = "# a: comment\nserver_name: \"a\"\nlisten: \"h:1\"\n\ncluster {\n  name: \"c\"\n  routes: [\"nats://h:2\", \"nats://h:3\"]\n}\nusers: [ { user: u, password: \"p:q\" } ]\n";
        assert_eq!(of_blocks(blocks), 7);
        assert_eq!(of_blocks(""), 0);
        #[cfg(feature = "kafka")]
        assert_eq!(of_properties("node.id=1\n# c\n\nlisteners=A://h:1,B://h:2\n"), 2);
    }
}
