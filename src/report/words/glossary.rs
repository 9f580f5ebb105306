//! What the words of the reports mean. docs/glossary.md is this list; a test holds them together.

/// A word of a table or a chart, and what it means.
#[derive(Debug, Clone, Copy)]
pub struct Term {
    pub word: &'static str,
    pub meaning: &'static str,
}

const fn term(word: &'static str, meaning: &'static str) -> Term {
    Term { word, meaning }
}

/// All words, in the order of a reader's questions.
pub const TERMS: &[Term] = &[
    term(
        "delivery time",
        "From the instant a message was due by the schedule until a consumer has it. In metrics `e2e`. A stall of the system or of the generator is in it.",
    ),
    term("round trip", "From the instant a request was due until its answer is there. In metrics `rtt`."),
    term(
        "acknowledgement time",
        "From the instant a message was due until the broker confirmed it to its producer. In metrics `ack`.",
    ),
    term(
        "service time",
        "The same times from the instant of sending: `e2e.service`, `rtt.service`, `ack.service`. They leave out how late the message was sent; never quote them alone.",
    ),
    term(
        "lag",
        "How late a message was sent: sent minus due. It is the generator's own delay, or back-pressure of the system.",
    ),
    term(
        "clocks",
        "By how much a time from one agent to another may be wrong, up or down, because each has its own clock: a bound that every exchange of readings allows, not an estimate. `one` where both ends are read off one clock. More messages or runs do not make it less.",
    ),
    term("typical", "The median: half of the messages took less, half took more (p50)."),
    term("1 in 100", "99 of 100 messages arrived within this time, 1 in 100 took longer (p99)."),
    term(
        "percentile",
        "p99 is the time within which 99 of 100 messages arrived; a message that never arrived counts as infinitely late. Percentiles are never averaged.",
    ),
    term("p50", "The median: half of the messages arrived within this time."),
    term("p90", "90 of 100 messages arrived within this time."),
    term("p99", "99 of 100 messages arrived within this time."),
    term("p99.9", "999 of 1,000 messages arrived within this time."),
    term("p99.99", "9,999 of 10,000 messages arrived within this time."),
    term("max", "The slowest message."),
    term("p99 range", "The smallest and the largest p99 of the valid trials."),
    term("inf", "Never: so many messages were lost that this percentile falls among them."),
    term(
        "?",
        "Fewer than 10 effective samples stand above this percentile, because slow messages came together: the value is that of these runs and says little of the next one.",
    ),
    term("case", "One system at one load point."),
    term("load point", "One value of what a scenario varies, such as a rate."),
    term("trial", "One execution of one case on a fresh system; also called a run."),
    term("trials", "Valid trials of all that were planned."),
    term("round", "One trial of every case, in a random order."),
    term("outcome", "Whether a trial came to its end."),
    term("validity", "What the checks say of a trial. INVALID ones are listed and never counted."),
    term(
        "check",
        "A rule that says whether the figures of a trial may be believed; docs/measurement.md has each with its limits.",
    ),
    term(
        "delivered/s",
        "Messages that arrived for the first time in the measured phase, per second, over all groups of consumers.",
    ),
    term("offered/s", "Messages due by the schedule, per second."),
    term(
        "lost",
        "Messages that were sent and owed to a group of consumers, and never arrived; where nobody receives \
         and all is read back at the end, those acknowledged and not there.",
    ),
    term("twice", "Messages that arrived again after they had arrived (duplicates)."),
    term("out of order", "Messages that arrived after a later one of the same producer and channel or key."),
    term("dead letter", "A message that was rejected so often that the system put it aside."),
    term("acknowledged", "Confirmed by the broker to the producer."),
    term("at most once", "A message may get lost and never comes twice: losing one breaks no promise."),
    term("at least once", "An acknowledged message is not lost and may come twice."),
    term("exactly once", "An acknowledged message is not lost and never comes twice."),
    term("survives a power cut", "Whether an acknowledged message was forced to the disk (fsync) before it counted."),
    term(
        "CPU for 1,000 messages/s",
        "Processor time of the broker's processes for each message delivered, times 1,000: the share of one core that such a rate takes.",
    ),
    term("CPU us/msg", "Processor time of the broker's processes for each message delivered, in microseconds."),
    term("MiB, GiB", "1,048,576 bytes (about a million), and 1,024 of those (about a thousand million bytes)."),
    term("memory", "The largest resident set of the broker's processes in the measured phase."),
    term(
        "confidence",
        "How far the answer may be relied on: from the number of valid runs, whether the order of the systems is decided, and whether the machine was busy.",
    ),
    term(
        "interval",
        "The range that holds the true value with a probability of 95 %; of fewer than six runs the range of what was seen.",
    ),
    term(
        "ratio",
        "How many times the second value is the first: the Hodges-Lehmann estimate over runs, with its exact interval.",
    ),
    term(
        "faster, slower, same, not decided",
        "What is said of two systems side by side, by the 95 % interval of their ratio. Not decided: the interval holds both answers.",
    ),
    term(
        "REGRESSED, IMPROVED, EQUIVALENT, CHANGED, INCONCLUSIVE",
        "What is said of one system and its own past, at the threshold of the gate and corrected for the number of tests.",
    ),
    term("baseline", "What is compared with."),
    term("candidate", "What is compared."),
    term("gate", "The thresholds and policies that turn a comparison into an exit code."),
    term("hiccup", "A pause of the host that a thread doing nothing else noticed."),
    term("backlog", "Messages sent and not yet received."),
    term(
        "outage",
        "A run of messages, by when they were due, that were not done within a deadline: from when the first of them was due until the first one afterwards that was in time was done. In metrics `outage.write` and `outage.read`.",
    ),
    term("lane", "A partition or subject: the channel of a message, or its key where messages have keys."),
    term("fault", "What the scenario did to a system, or one repetition of it."),
    term("no writes for", "The longest outage of acknowledgements of any lane after a fault."),
    term("no deliveries for", "The longest outage of deliveries of any lane after a fault."),
    term(
        "of that the client",
        "From when a bare client that tries every 10 ms found the system ready until the last lane had done a message: what the client library adds with its pauses.",
    ),
    term("open loop", "Messages are sent by a schedule that was decided before, whatever the system does."),
    term(
        "closed loop",
        "The next message waits for an answer: what a stall delays is not sent, and its delay is not measured.",
    ),
];

/// The meaning of a word, by itself or as the head of a table.
pub fn of(word: &str) -> Option<&'static Term> {
    let word = word.trim_end_matches(" *");
    let alias = match word {
        "dup" | "duplicated" => "twice",
        "reord" | "reordered" => "out of order",
        "service p99" => "service time",
        "lag p99" => "lag",
        "verdict" => "faster, slower, same, not decided",
        "ratio [95 % CI]" => "ratio",
        "runs" => "trial",
        other => other,
    };
    TERMS.iter().find(|t| t.word == alias)
}

/// An anchor for a word: letters, digits and hyphens.
pub fn anchor(word: &str) -> String {
    let plain: String =
        word.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    format!("word-{}", plain.trim_matches('-'))
}

/// docs/glossary.md.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Glossary\n\nWhat the words of reports, tables and charts mean. This page is made from the program\n(`src/report/words/glossary.rs`); a test holds them together.\n\n| word | meaning |\n|---|---|\n",
    );
    for t in TERMS {
        out.push_str(&format!("| {} | {} |\n", t.word, t.meaning));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample;
    use crate::report::words::view::summary_table;

    #[test]
    fn the_page_in_docs_is_this_list() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/glossary.md");
        if std::env::var_os("MSGBENCH_WRITE_DOCS").is_some() {
            std::fs::write(&path, markdown()).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap();
        assert!(there == markdown(), "docs/glossary.md is old: MSGBENCH_WRITE_DOCS=1 cargo test --lib glossary");
    }

    #[test]
    fn every_head_of_the_summary_has_its_meaning_and_no_word_has_two() {
        for head in summary_table(&sample::record()).head.iter().filter(|h| *h != "of") {
            assert!(of(head).is_some(), "{head}");
        }
        let mut anchors: Vec<String> = TERMS.iter().map(|t| anchor(t.word)).filter(|a| a != "word-").collect();
        anchors.sort();
        let all = anchors.len();
        anchors.dedup();
        assert_eq!(anchors.len(), all);
    }
}
