//! Reads the modules of a source tree and every path in them that leads to another module of the
//! crate.
//!
//! Works on tokens, so that grouped, nested, relative and renamed imports, paths in expressions and
//! paths in the arguments of macros are all seen. Items behind `#[cfg(test)]` are marked, because
//! tests may look further than the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path in the code that names something of the crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Import {
    /// The module it stands in, from the crate's root.
    pub from: Vec<String>,
    /// What it names, from the crate's root: modules first, then an item, or `*`.
    pub to: Vec<String>,
    /// Its file, relative to the crate, and its line.
    pub place: (PathBuf, usize),
    /// Whether it stands behind `#[cfg(test)]`.
    pub test: bool,
}

/// A function with a body.
#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    pub lines: usize,
    pub place: (PathBuf, usize),
    pub test: bool,
}

/// One source file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Relative to the crate.
    pub path: PathBuf,
    pub module: Vec<String>,
    pub text: String,
    /// Whether the whole file is for tests only.
    pub test: bool,
    /// Lines outside `#[cfg(test)]` items that hold code: neither blank nor only a comment.
    pub code_lines: usize,
    /// External crates that are named by path outside of tests.
    pub crates: BTreeSet<String>,
}

/// A source tree as read.
#[derive(Debug, Default)]
pub struct Tree {
    pub sources: Vec<Source>,
    pub imports: Vec<Import>,
    pub functions: Vec<Function>,
}

impl Tree {
    /// Reads `src` below the folder of a crate.
    pub fn read(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut open = vec![root.join("src")];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.insert(path.strip_prefix(root).unwrap().to_path_buf(), text);
            }
        }
        Self::of(files)
    }

    /// Of files that are given, by their path relative to the crate.
    pub fn of(files: BTreeMap<PathBuf, String>) -> Self {
        let mut modules: BTreeMap<PathBuf, Vec<String>> =
            files.keys().map(|path| (path.clone(), module_of(path))).collect();
        let mut pathed = Vec::new();
        let mut tests: BTreeSet<Vec<String>> = BTreeSet::new();
        for (path, text) in &files {
            let tokens = parse(path, text);
            declarations(tokens, &modules[path], path, &mut pathed, &mut tests);
        }
        for (path, module) in pathed {
            modules.insert(path, module);
        }
        let known: BTreeSet<Vec<String>> = modules.values().cloned().collect();
        let mut tree = Self::default();
        for (path, text) in files {
            let module = modules[&path].clone();
            let test = tests.iter().any(|t| module.starts_with(t));
            let mut walk = Walk {
                path: &path,
                known: &known,
                tree: &mut tree,
                test_lines: BTreeSet::new(),
                crates: BTreeSet::new(),
            };
            walk.block(parse(&path, &text), &module, test);
            let (test_lines, crates) = (walk.test_lines, walk.crates);
            let code = |(i, line): (usize, &str)| {
                let line = line.trim();
                !line.is_empty() && !line.starts_with("//") && !test_lines.contains(&(i + 1))
            };
            let code_lines = if test { 0 } else { text.lines().enumerate().filter(|l| code(*l)).count() };
            tree.sources.push(Source { path, module, text, test, code_lines, crates });
        }
        tree
    }
}

fn parse(path: &Path, text: &str) -> Vec<TokenTree> {
    TokenStream::from_str(text).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into_iter().collect()
}

fn module_of(path: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        path.with_extension("").iter().skip(1).map(|p| p.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| last == "mod") || parts == ["lib"] || parts == ["main"] {
        parts.pop();
    }
    parts
}

/// Finds `#[path = ...]` modules, and modules behind `#[cfg(test)]`.
fn declarations(
    tokens: Vec<TokenTree>,
    here: &[String],
    path: &Path,
    pathed: &mut Vec<(PathBuf, Vec<String>)>,
    tests: &mut BTreeSet<Vec<String>>,
) {
    let mut attributes: Vec<String> = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Punct(p) if p.as_char() == '#' => {
                if let Some(TokenTree::Group(g)) = tokens.get(i + 1) {
                    attributes.push(g.stream().to_string());
                }
            }
            TokenTree::Punct(p) if p.as_char() == ';' => attributes.clear(),
            TokenTree::Group(g) if g.delimiter() == Delimiter::Brace => attributes.clear(),
            TokenTree::Ident(word) if word == "mod" => {
                let (Some(TokenTree::Ident(name)), Some(TokenTree::Punct(_))) = (tokens.get(i + 1), tokens.get(i + 2))
                else {
                    continue;
                };
                let module = [here, &[name.to_string()]].concat();
                if attributes.iter().any(|a| is_test(a)) {
                    tests.insert(module.clone());
                }
                if let Some(file) = attributes.iter().find_map(|a| a.strip_prefix("path = ")) {
                    pathed.push((path.with_file_name(file.trim_matches('"')), module));
                }
            }
            _ => {}
        }
    }
}

/// Whether an attribute keeps an item out of anything but tests.
pub fn is_test(attribute: &str) -> bool {
    let compact: String = attribute.chars().filter(|c| !c.is_whitespace()).collect();
    compact == "test" || compact == "cfg(test)" || compact.starts_with("cfg(all(test,")
}

struct Walk<'a> {
    path: &'a Path,
    known: &'a BTreeSet<Vec<String>>,
    tree: &'a mut Tree,
    test_lines: BTreeSet<usize>,
    crates: BTreeSet<String>,
}

impl Walk<'_> {
    /// A sequence of items or expressions in module `here`.
    fn block(&mut self, tokens: Vec<TokenTree>, here: &[String], test: bool) {
        let mut i = 0;
        // Whether the item that begins here is for tests only, and where its attribute stands.
        let mut behind: Option<usize> = None;
        while i < tokens.len() {
            let now_test = test || behind.is_some();
            match &tokens[i] {
                TokenTree::Punct(p) if p.as_char() == '#' => {
                    if let Some(TokenTree::Group(g)) = tokens.get(i + 1)
                        && g.delimiter() == Delimiter::Bracket
                    {
                        if is_test(&g.stream().to_string()) {
                            behind.get_or_insert(p.span().start().line);
                        }
                        i += 2;
                        continue;
                    }
                }
                TokenTree::Punct(p) if p.as_char() == ';' => {
                    self.end_item(&mut behind, p.span().end().line);
                }
                TokenTree::Ident(word) if word == "fn" => self.function(&tokens, i, now_test),
                TokenTree::Ident(word) if word == "mod" => {
                    if let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(body))) =
                        (tokens.get(i + 1), tokens.get(i + 2))
                        && body.delimiter() == Delimiter::Brace
                    {
                        let inner = [here, &[name.to_string()]].concat();
                        self.block(body.stream().into_iter().collect(), &inner, now_test);
                        self.end_item(&mut behind, body.span_close().end().line);
                        i += 3;
                        continue;
                    }
                }
                TokenTree::Ident(word)
                    if word == "use"
                        && matches!(tokens.get(i + 1), Some(TokenTree::Ident(_) | TokenTree::Group(_))) =>
                {
                    i = self.path(&tokens, i + 1, &mut Vec::new(), here, now_test);
                    continue;
                }
                TokenTree::Ident(_) if starts_path(&tokens, i) => {
                    i = self.path(&tokens, i, &mut Vec::new(), here, now_test);
                    continue;
                }
                TokenTree::Group(g) => {
                    self.block(g.stream().into_iter().collect(), here, now_test);
                    if g.delimiter() == Delimiter::Brace {
                        self.end_item(&mut behind, g.span_close().end().line);
                    }
                }
                _ => {}
            }
            i += 1;
        }
    }

    fn end_item(&mut self, behind: &mut Option<usize>, line: usize) {
        if let Some(from) = behind.take() {
            self.test_lines.extend(from..=line);
        }
    }

    fn function(&mut self, tokens: &[TokenTree], at: usize, test: bool) {
        let Some(TokenTree::Ident(name)) = tokens.get(at + 1) else { return };
        let body = tokens[at + 2..].iter().find_map(|t| match t {
            TokenTree::Punct(p) if p.as_char() == ';' => Some(None),
            TokenTree::Group(g) if g.delimiter() == Delimiter::Brace => Some(Some(g)),
            _ => None,
        });
        if let Some(Some(body)) = body {
            let line = name.span().start().line;
            let lines = body.span_close().end().line - line + 1;
            self.tree.functions.push(Function { name: name.to_string(), lines, place: (self.path.into(), line), test });
        }
    }

    /// A path, or a tree of paths, whose next segment stands at `at`; returns where it ends.
    fn path(
        &mut self,
        tokens: &[TokenTree],
        mut at: usize,
        segments: &mut Vec<String>,
        here: &[String],
        test: bool,
    ) -> usize {
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(word)) => {
                    let line = word.span().start().line;
                    segments.push(word.to_string());
                    at += 1;
                    if double_colon(tokens, at) {
                        at += 2;
                        continue;
                    }
                    self.found(segments, here, line, test);
                }
                Some(TokenTree::Punct(p)) if p.as_char() == '*' => {
                    let line = p.span().start().line;
                    segments.push("*".into());
                    self.found(segments, here, line, test);
                    at += 1;
                }
                Some(TokenTree::Group(g)) if g.delimiter() == Delimiter::Brace => {
                    let inner: Vec<TokenTree> = g.stream().into_iter().collect();
                    let mut i = 0;
                    while i < inner.len() {
                        let mut branch = segments.clone();
                        let end = self.path(&inner, i, &mut branch, here, test);
                        // Past a renaming and the comma.
                        i = end.max(i + 1);
                        while i < inner.len() && !matches!(&inner[i], TokenTree::Punct(p) if p.as_char() == ',') {
                            i += 1;
                        }
                        i += 1;
                    }
                    at += 1;
                }
                // `Vec::<T>`, `<T as X>::f`: the generic arguments are read by the caller.
                _ if segments.is_empty() => {}
                _ => {
                    let line = tokens.get(at.saturating_sub(1)).map_or(0, |t| t.span().start().line);
                    self.found(segments, here, line, test);
                }
            }
            return at;
        }
    }

    fn found(&mut self, segments: &[String], here: &[String], line: usize, test: bool) {
        let to = match segments[0].as_str() {
            // The root under another name would hide what is taken from it.
            "crate" if segments.len() == 1 => vec!["*".into()],
            "crate" => segments[1..].to_vec(),
            "self" => [here, &segments[1..]].concat(),
            "super" => {
                let up = segments.iter().take_while(|s| *s == "super").count();
                if up > here.len() {
                    return;
                }
                [&here[..here.len() - up], &segments[up..]].concat()
            }
            first if self.known.contains(&[here, &[first.to_string()]].concat()) => [here, segments].concat(),
            first => {
                if !test {
                    self.crates.insert(first.to_string());
                }
                return;
            }
        };
        let place = (self.path.to_path_buf(), line);
        self.tree.imports.push(Import { from: here.to_vec(), to, place, test });
    }
}

fn double_colon(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |t: Option<&TokenTree>| matches!(t, Some(TokenTree::Punct(p)) if p.as_char() == ':');
    colon(tokens.get(at)) && colon(tokens.get(at + 1))
}

/// Whether a path begins here: a word with `::` behind it and none before it.
fn starts_path(tokens: &[TokenTree], at: usize) -> bool {
    double_colon(tokens, at + 1) && !(at >= 2 && double_colon(tokens, at - 2))
}
