//! Names and words (DESIGN section 4): one meaning per type name, the field's words, comments and
//! documents no wider than 100 columns.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{TokenStream, TokenTree};

/// Type names that are declared more than once, with the reason. An entry that is no longer needed
/// fails the test.
const TWICE: [(&str, &str); 0] = [];

/// Words that may not be names, and what to say instead. They hold for whole identifiers, and for
/// each word of an identifier of at most three words; longer ones are sentences (names of tests).
const POETIC: [(&str, &str); 40] = [
    ("agenda", "pending events"),
    ("aside", "run blocking"),
    ("befall", "faults of a message, incidents of a connection"),
    ("befalls", "faults of a message, incidents of a connection"),
    ("bell", "wake signal"),
    ("bells", "wake signals"),
    ("belt", "forwarder"),
    ("books", "accounting, ledger, send state"),
    ("complain", "log an error"),
    ("contest", "pair of cases"),
    ("converse", "serve a connection"),
    ("crowded", "full"),
    ("deaf", "reading is paused"),
    ("detour", "fault path"),
    ("duty", "thread role"),
    ("ear", "consumer recorder"),
    ("ears", "consumer recorders"),
    ("errand", "stored batch"),
    ("farewell", "reason to close"),
    ("fate", "decision of the fault script"),
    ("glance", "sample"),
    ("hopeless", "fatal"),
    ("keeper", "connection writer, run writer"),
    ("leg", "target of a route"),
    ("legs", "targets of a route"),
    ("misbehaviour", "fault options"),
    ("misshapen", "malformed"),
    ("mute", "writes are discarded"),
    ("news", "event"),
    ("nowhere", "say what is not there"),
    ("obey", "apply a command"),
    ("parcel", "owned message, unacknowledged message"),
    ("seat", "client slot"),
    ("seats", "client slots"),
    ("shelf", "histogram store"),
    ("slab", "arena"),
    ("surroundings", "context of a run"),
    ("trouble", "connection health"),
    ("unrest", "host noise"),
    ("witness", "what it does: counts, measures pauses"),
];

/// Widest line of a comment or of a paragraph in a document.
const WIDTH: usize = 100;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files below these folders that end so, by their path relative to the crate.
fn files(folders: &[&str], ending: &str) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open: Vec<PathBuf> = folders.iter().map(|f| root().join(f)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == ending) {
            let text = std::fs::read_to_string(&path).unwrap();
            found.insert(path.strip_prefix(root()).unwrap().to_path_buf(), text);
        }
    }
    found
}

fn tokens(path: &Path, text: &str) -> TokenStream {
    TokenStream::from_str(text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Names of the types that are declared; associated types are those of their trait, and left out.
fn declared(stream: TokenStream, associated: bool, found: &mut Vec<String>) {
    let all: Vec<TokenTree> = stream.into_iter().collect();
    let mut members = false;
    for (i, token) in all.iter().enumerate() {
        match token {
            TokenTree::Ident(word) => {
                let word = word.to_string();
                // `impl Trait` in a signature ends with the body of the function, which has no
                // types of an impl.
                members = (members || word == "impl" || word == "trait") && word != "fn";
                let declares =
                    matches!(word.as_str(), "struct" | "enum" | "union" | "trait") || word == "type" && !associated;
                if let Some(TokenTree::Ident(name)) = all.get(i + 1).filter(|_| declares) {
                    found.push(name.to_string());
                }
            }
            TokenTree::Group(group) => {
                let body = group.delimiter() == proc_macro2::Delimiter::Brace;
                declared(group.stream(), members && body, found);
                members &= !body;
            }
            TokenTree::Punct(mark) if mark.as_char() == ';' => members = false,
            _ => {}
        }
    }
}

/// Names that more than one type has, with the files that declare them.
fn declared_twice(files: &BTreeMap<PathBuf, String>) -> BTreeMap<String, Vec<String>> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in files {
        let mut names = Vec::new();
        declared(tokens(path, text), false, &mut names);
        for name in names.into_iter().filter(|n| n.starts_with(char::is_uppercase)) {
            places.entry(name).or_default().push(path.display().to_string());
        }
    }
    places.retain(|_, at| at.len() > 1);
    places
}

#[test]
fn a_type_name_has_one_meaning() {
    let mut wrong: Vec<String> = Vec::new();
    let twice = declared_twice(&files(&["src"], "rs"));
    for (name, places) in &twice {
        if !TWICE.iter().any(|(known, _)| known == name) {
            wrong.push(format!("{name} is declared in {}", places.join(", ")));
        }
    }
    let needless = TWICE.iter().filter(|(known, _)| !twice.contains_key(*known));
    wrong.extend(needless.map(|(known, _)| format!("{known} is excused and need not be")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The words of an identifier, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.trim_start_matches("r#").chars() {
        if c == '_' || c.is_uppercase() && words.last().is_some_and(|w| w.ends_with(char::is_lowercase)) {
            words.push(String::new());
        }
        if c != '_'
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|w| !w.is_empty());
    words
}

/// Identifiers that are, or contain, a word that may not be a name: name, line and what to say.
fn poetic(stream: TokenStream, found: &mut BTreeSet<(usize, String, &'static str)>) {
    for token in stream {
        match token {
            TokenTree::Ident(name) => {
                let parts = words(&name.to_string());
                let hit = |part: &String| POETIC.iter().find(|(word, _)| word == part);
                if parts.len() <= 3
                    && let Some((_, instead)) = parts.iter().find_map(hit)
                {
                    found.insert((name.span().start().line, name.to_string(), *instead));
                }
            }
            TokenTree::Group(group) => poetic(group.stream(), found),
            _ => {}
        }
    }
}

#[test]
fn names_are_words_of_the_field() {
    let mut wrong = Vec::new();
    for (path, text) in files(&["src", "tests", "benches", "examples"], "rs") {
        let mut found = BTreeSet::new();
        poetic(tokens(&path, &text), &mut found);
        wrong.extend(found.iter().map(|(line, name, instead)| format!("{}:{line}: {name}: {instead}", path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Lines that a string literal goes on in: what looks like a comment there is none.
fn within_strings(stream: TokenStream, found: &mut BTreeSet<usize>) {
    for token in stream {
        match token {
            TokenTree::Literal(literal) => {
                let span = literal.span();
                found.extend(span.start().line + 1..=span.end().line);
            }
            TokenTree::Group(group) => within_strings(group.stream(), found),
            _ => {}
        }
    }
}

/// Numbers of the lines wider than [`WIDTH`] that could be broken: no row of a table, no code, no
/// heading, and not one long word. `lines` are numbered, `start` is what stands before the text.
fn wide<'a>(lines: impl Iterator<Item = (usize, &'a str, usize)>) -> Vec<usize> {
    let mut found = Vec::new();
    let mut fence = false;
    for (number, text, start) in lines {
        let trimmed = text.trim();
        if trimmed.starts_with("```") || trimmed.starts_with("~~~") {
            fence = !fence;
        }
        let kept = fence || trimmed.starts_with(['|', '#', '<', '>']) || text.starts_with("    ");
        let one_word = !trimmed.trim_start_matches(['-', '*', ' ']).contains(' ');
        let reference = trimmed.starts_with('[') && trimmed.contains("]: ");
        if start + text.chars().count() > WIDTH && !kept && !one_word && !reference {
            found.push(number);
        }
    }
    found
}

/// Lines of comments in Rust that are too wide.
fn wide_comments(path: &Path, text: &str) -> Vec<usize> {
    let mut strings = BTreeSet::new();
    within_strings(tokens(path, text), &mut strings);
    let lines = text.lines().enumerate().filter_map(|(i, line)| {
        let mark = line.trim_start();
        let rest = ["///", "//!", "//"].iter().find_map(|m| mark.strip_prefix(m))?;
        let rest = rest.strip_prefix(' ').unwrap_or(rest);
        let start = line.chars().count() - rest.chars().count();
        (!strings.contains(&(i + 1))).then_some((i + 1, rest, start))
    });
    wide(lines)
}

#[test]
fn comments_and_documents_are_no_wider_than_100_columns() {
    let mut wrong = Vec::new();
    for (path, text) in files(&["src", "tests", "benches", "examples", "scripts/fuzz/fuzz_targets"], "rs") {
        wrong.extend(wide_comments(&path, &text).iter().map(|line| format!("{}:{line}", path.display())));
    }
    let mut documents = files(&["docs"], "md");
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = PathBuf::from(entry.unwrap().file_name());
        if name.extension().is_some_and(|e| e == "md") {
            documents.insert(name.clone(), std::fs::read_to_string(root().join(&name)).unwrap());
        }
    }
    for (path, text) in documents {
        let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line, 0));
        wrong.extend(wide(lines).iter().map(|line| format!("{}:{line}", path.display())));
    }
    assert!(wrong.is_empty(), "{} lines are wider than {WIDTH} columns:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_rules_of_names_find_what_they_are_for() {
    let text = "
        pub struct Batch; mod inner { enum Batch { A } }
        impl Trait for X { type Batch = u8; } trait Trait { type Other; }
        fn f(x: impl Trait) { struct Inner; } type Inner = u8;
    ";
    let files = BTreeMap::from([(PathBuf::from("a.rs"), text.to_string())]);
    assert_eq!(declared_twice(&files).keys().collect::<Vec<_>>(), ["Batch", "Inner"]);

    assert_eq!(words("RunKeeper"), ["run", "keeper"]);
    assert_eq!(words("hand_to_keeper"), ["hand", "to", "keeper"]);
    let mut found = BTreeSet::new();
    let text = "fn keeper() {} struct RunKeeper; let s = \"keeper\"; fn what_a_keeper_is_for() {} // keeper";
    poetic(TokenStream::from_str(text).unwrap(), &mut found);
    assert_eq!(found.iter().map(|(_, name, _)| name.as_str()).collect::<Vec<_>>(), ["RunKeeper", "keeper"]);

    let long = "word ".repeat(25);
    let text = format!(
        "/// {long}\n/// | {long} |\n/// ```\n/// {long}\n/// ```\nconst A: &str = \"\n// {long}\";\n    // {long}\n"
    );
    assert_eq!(wide_comments(Path::new("a.rs"), &text), [1, 8]);
}
