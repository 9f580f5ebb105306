//! No test passes without saying so: whatever ends a test early goes through
//! `tests/common/needs.rs`, which counts it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::needs;

const NEEDS: &str = "tests/common/needs.rs";

/// A function with its body.
struct Function {
    file: PathBuf,
    name: String,
    test: bool,
    /// Between its name and its body.
    signature: Vec<TokenTree>,
    body: Vec<TokenTree>,
}

fn flat(tokens: &[TokenTree]) -> Vec<String> {
    let mut all = Vec::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => all.extend(flat(&group.stream().into_iter().collect::<Vec<_>>())),
            TokenTree::Ident(name) => all.push(name.to_string()),
            _ => {}
        }
    }
    all
}

fn is_ident(token: Option<&TokenTree>, word: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(name)) if name == word)
}

fn is_punct(token: Option<&TokenTree>, sign: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == sign)
}

/// The functions of a file, those in modules and implementations too; and the attributes that make
/// Rust skip a test.
fn functions(file: &Path, tokens: Vec<TokenTree>, found: &mut Vec<Function>, broken: &mut Vec<String>) {
    let (mut at, mut test) = (0, false);
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Punct(sign) if sign.as_char() == '#' => {
                if let Some(TokenTree::Group(group)) = tokens.get(at + 1) {
                    let words = flat(&group.stream().into_iter().collect::<Vec<_>>());
                    test |= words.last().is_some_and(|word| word == "test") && words[0] != "cfg"
                        || words[0] == "tokio" && words.get(1).is_some_and(|word| word == "test");
                    if words.iter().any(|word| word == "ignore") {
                        let line = sign.span().start().line;
                        broken.push(format!("{}:{line}: a test is ignored", file.display()));
                    }
                }
                at += 2;
                continue;
            }
            TokenTree::Ident(word) if word == "fn" => {
                if let Some(TokenTree::Ident(name)) = tokens.get(at + 1) {
                    let brace =
                        |t: &TokenTree| matches!(t, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
                    let end = tokens[at..].iter().position(|t| brace(t) || is_punct(Some(t), ';'));
                    let end = at + end.unwrap_or(tokens.len() - at - 1);
                    if let TokenTree::Group(group) = &tokens[end] {
                        let body: Vec<TokenTree> = group.stream().into_iter().collect();
                        functions(file, body.clone(), found, broken);
                        let signature = tokens[at + 2..end].to_vec();
                        found.push(Function { file: file.into(), name: name.to_string(), test, signature, body });
                    }
                    at = end;
                }
                test = false;
            }
            TokenTree::Group(group) => functions(file, group.stream().into_iter().collect(), found, broken),
            _ => {}
        }
        at += 1;
    }
}

/// The tests that are built together: a folder or file of `tests`, or one file of `src`.
fn group(file: &Path) -> PathBuf {
    file.iter().take(if file.starts_with("tests") { 2 } else { usize::MAX }).collect()
}

/// What tells a test of this group that a need is not met: the module of needs, and the functions
/// that return an answer of it.
fn tellers(functions: &[Function], files: &BTreeMap<PathBuf, String>, of: &Path) -> BTreeSet<String> {
    let texts: Vec<&String> = files.iter().filter(|(path, _)| group(path) == of).map(|(_, text)| text).collect();
    // Another binary's file may be taken in by its path.
    let taken = |file: &Path| {
        let name = file.strip_prefix("tests").map(|rest| format!("../{}\"", rest.display()));
        name.is_ok_and(|name| texts.iter().any(|text| text.contains(&name)))
    };
    let own: BTreeSet<&PathBuf> = files.keys().filter(|f| group(f) == of || taken(f)).collect();
    let mine = |f: &&Function| !f.test && f.file != Path::new(NEEDS) && own.contains(&f.file);
    let mine: Vec<&Function> = functions.iter().filter(mine).collect();
    let mut known = BTreeSet::from(["needs".to_owned(), "Mount".to_owned()]);
    loop {
        let before = known.len();
        for function in &mine {
            let tells = flat(&function.signature).iter().any(|word| word == "Option" || word == "bool");
            if tells && flat(&function.body).iter().any(|word| known.contains(word)) {
                known.insert(function.name.clone());
            }
        }
        if known.len() == before {
            return known;
        }
    }
}

/// The lines on which a test ends early without having asked for what it needs.
fn silent(tokens: &[TokenTree], tellers: &BTreeSet<String>, told: bool, lines: &mut Vec<usize>) {
    let tells = |tokens: &[TokenTree]| flat(tokens).iter().any(|word| tellers.contains(word));
    let mut begun = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Punct(sign) if sign.as_char() == ';' => begun = at + 1,
            TokenTree::Ident(word) if word == "return" => {
                let end = tokens[at..].iter().position(|t| is_punct(Some(t), ';')).map_or(tokens.len(), |n| at + n);
                if !told && !tells(&tokens[begun..end]) {
                    lines.push(word.span().start().line);
                }
            }
            TokenTree::Group(group) => {
                // A closure and a task end for themselves.
                let before = at.checked_sub(1).map(|before| &tokens[before]);
                let own = is_punct(before, '|') || ["move", "async"].iter().any(|word| is_ident(before, word));
                // So does a function within the test.
                let inner = tokens[begun..at].iter().any(|t| is_ident(Some(t), "fn"));
                if !own && !inner {
                    let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                    silent(&inside, tellers, told || tells(&tokens[begun..at]), lines);
                }
                let goes_on = is_ident(tokens.get(at + 1), "else") || is_punct(tokens.get(at + 1), '.');
                if group.delimiter() == Delimiter::Brace && !goes_on {
                    begun = at + 1;
                }
            }
            _ => {}
        }
    }
}

/// The lines on which an answer about a need is kept: only the first test that asks would be
/// counted.
fn kept(tokens: &[TokenTree], tellers: &BTreeSet<String>, lines: &mut Vec<usize>) {
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let inside: Vec<TokenTree> = group.stream().into_iter().collect();
        let new = is_ident(at.checked_sub(1).map(|n| &tokens[n]), "new")
            && tokens[..at].iter().rev().take(6).any(|t| is_ident(Some(t), "LazyLock"));
        let init = is_ident(at.checked_sub(1).map(|n| &tokens[n]), "get_or_init");
        if (new || init) && flat(&inside).iter().any(|word| tellers.contains(word)) {
            lines.push(group.span_open().start().line);
        }
        kept(&inside, tellers, lines);
    }
}

/// What breaks the rule in these files.
fn broken(files: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let (mut all, mut broken) = (Vec::new(), Vec::new());
    for (path, text) in files {
        let tokens = TokenStream::from_str(text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        functions(path, tokens.into_iter().collect(), &mut all, &mut broken);
        let own = ["SKIPPED", "MSGBENCH_NO_SKIP", "MSGBENCH_SKIPPED"];
        if path.starts_with("tests") && path != Path::new(NEEDS) && !path.starts_with("tests/house") {
            let said = |line: &str| own.iter().any(|word| line.contains(word)) || line.contains("\"skipped: ");
            let lines = text.lines().enumerate().filter(|(_, line)| said(line));
            broken.extend(lines.map(|(n, _)| format!("{}:{}: skips by itself", path.display(), n + 1)));
        }
    }
    let mut known = BTreeMap::new();
    for test in &all {
        let group = group(&test.file);
        let tellers = known.entry(group.clone()).or_insert_with(|| tellers(&all, files, &group));
        let mut lines = Vec::new();
        kept(&test.body, tellers, &mut lines);
        let said = "keeps the answer about a need, so that only the first test is counted";
        broken.extend(lines.iter().map(|line| format!("{}:{line}: {} {said}", test.file.display(), test.name)));
        if !test.test {
            continue;
        }
        let mut lines = Vec::new();
        silent(&test.body, tellers, false, &mut lines);
        broken.extend(lines.iter().map(|line| {
            format!("{}:{line}: {} ends early and asks for nothing that it needs", test.file.display(), test.name)
        }));
    }
    broken
}

#[test]
fn no_test_is_skipped_without_being_counted() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (mut files, mut open) = (BTreeMap::new(), vec![root.join("src"), root.join("tests")]);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.insert(path.strip_prefix(root).unwrap().to_path_buf(), std::fs::read_to_string(&path).unwrap());
        }
    }
    let broken = broken(&files);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn a_test_that_ends_early_is_seen() {
    let seen = |text: &str| {
        let needs = "pub fn lack() {} pub fn server() -> Option<u8> { lack(); None }";
        let helper = "fn launch() -> Option<u8> { needs::server() } fn plain() -> Option<u8> { None }";
        let file = |path: &str, text: &str| (PathBuf::from(path), text.to_owned());
        let test = format!("{helper} {text}");
        !broken(&BTreeMap::from([file(NEEDS, needs), file("tests/one.rs", &test)])).is_empty()
    };
    for text in [
        "#[test] fn t() { let Some(x) = plain() else { return }; }",
        "#[test] fn t() { let Some(x) = launch() else { return }; if x == 1 { return; } }",
        "#[test] fn t() { launch(); return; }",
        "mod m { #[test] fn t() { for n in 0..3 { if n == 1 { return; } } } }",
        "#[test] fn t() { match plain() { None => return, Some(_) => {} } }",
        "#[tokio::test(flavor = \"current_thread\")] async fn t() { if plain().is_none() { return; } }",
        "#[test] #[ignore = \"slow\"] fn t() {}",
        "#[cfg_attr(miri, ignore)] #[test] fn t() {}",
        "#[test] fn t() { eprintln!(\"SKIPPED: no server\"); }",
        "fn one() -> Option<u8> { static X: OnceLock<Option<u8>> = OnceLock::new(); *X.get_or_init(|| launch()) }",
        "fn one() -> Option<u8> { static X: LazyLock<Option<u8>> = LazyLock::new(|| launch()); *X }",
    ] {
        assert!(seen(text), "not seen: {text}");
    }
    for text in [
        "#[test] fn t() { let Some(x) = launch() else { return }; }",
        "#[test] fn t() { if needs::server().is_none() { return; } }",
        "#[test] fn t() { if 1 == 2 { return needs::lack(); } }",
        "#[test] fn t() { spawn(move || { let Some(x) = plain() else { return }; }); }",
        "#[test] fn t() { fn f() { return } f() }",
        "fn t() { return; }",
        "fn one() -> Option<u8> { launch()?; static X: OnceLock<u8> = OnceLock::new(); Some(*X.get_or_init(|| 1)) }",
    ] {
        assert!(!seen(text), "seen: {text}");
    }
}

#[test]
fn skipped_tests_are_counted_once_each() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("made/run");
    needs::note(&file, "nats core::a", "no nats-server", "install it");
    needs::note(&file, "nats core::a", "no nats-server", "install it");
    needs::note(&file, "nats core::a", "no second\nserver", "install it");
    needs::note(&file, "kafka b", "no Kafka", "install it");
    assert_eq!(
        needs::summary(&std::fs::read_to_string(&file).unwrap()),
        "2 tests skipped, wholly or in part:\n  kafka b: no Kafka; install it\n  nats core::a: no nats-server; install it\n  \
         nats core::a: no second server; install it"
    );
    assert_eq!(needs::summary(""), "no test skipped");
    // The file is one of this run: the process that started this one lives.
    assert!(needs::started(std::os::unix::process::parent_id()).is_some());
}

#[test]
fn versions_of_servers_are_compared_by_their_numbers() {
    for (version, expected) in [
        ("2.10.27", Some((2, 10))),
        ("v2.9.1", Some((2, 9))),
        ("nats-server: v2.15.2", Some((2, 15))),
        ("2.14.0-preview.1", Some((2, 14))),
        ("4.4.0", Some((4, 4))),
        ("unknown", None),
    ] {
        assert_eq!(needs::numbers(version), expected, "{version}");
    }
    assert!(needs::numbers("2.9") < needs::numbers("2.10"));
}
