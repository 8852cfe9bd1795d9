//! House rules that neither the compiler nor clippy knows, checked over the files that git lists.

mod links;

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

/// Lines of a source file. Aim for a quarter of it.
const FILE_LINES_MAX: usize = 600;
/// Beginnings of paths that exist on one machine only.
const OWN_PATHS: [&str; 2] = ["/root/", "/Users/"];
/// Where Markdown may name a file without its folder: files of the running system.
const ELSEWHERE: [&str; 4] = ["/", "~", "$", "target/"];
const LINKED_SUFFIXES: [&str; 6] = [".rs", ".md", ".toml", ".json", ".yaml", ".sh"];

/// Every breach of a rule, as `file: rule`.
pub fn faults(root: &Path) -> anyhow::Result<Vec<String>> {
    let files = tracked(root)?;
    let mut faults = Vec::new();
    for file in &files {
        let Ok(text) = fs::read_to_string(root.join(file)) else { continue };
        let mut found = Vec::new();
        match Path::new(file).extension().and_then(|extension| extension.to_str()) {
            Some("rs") => source(file, &text, &mut found),
            Some("md") => {
                found.extend(missing_paths(root, file, &text));
                found.extend(links::broken(root, file, &text));
            }
            _ => {}
        }
        faults.extend(found.into_iter().map(|fault| format!("{file}: {fault}")));
    }
    Ok(faults)
}

/// Files that git tracks or would track.
fn tracked(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("cannot run git")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let list = String::from_utf8(output.stdout).context("names of files")?;
    Ok(list.lines().map(str::to_owned).collect())
}

fn source(file: &str, text: &str, faults: &mut Vec<String>) {
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        faults.push(format!("{lines} lines, at most {FILE_LINES_MAX}"));
    }
    if !text.trim_start().starts_with("//!") {
        faults.push("does not say what lives here (`//!` at its top)".into());
    }
    // This file spells what it looks for.
    if file.ends_with("src/tidy/mod.rs") {
        return;
    }
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        if line.trim() == "#[ignore]" {
            faults.push(format!("line {number}: an ignored test says why: #[ignore = \"…\"]"));
        }
        if let Some(path) = OWN_PATHS.iter().find(|path| names_path(line, path)) {
            faults.push(format!("line {number}: a path of one machine ({path}…)"));
        }
    }
    if let Some(("tests", rest)) = file.split_once('/').and_then(|(_, rest)| rest.split_once('/')) {
        let suite = rest.split('/').next().unwrap_or_default();
        if !["it", "hosts"].contains(&suite) {
            faults.push("integration tests live in tests/it (or xtask/tests/hosts)".into());
        }
    }
}

/// Whether `path` begins a path in this line, rather than being a part of one.
fn names_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "_-.}".contains(c))
    })
}

/// Files that a Markdown text names in backticks, and that do not exist.
fn missing_paths(root: &Path, file: &str, text: &str) -> Vec<String> {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let mut missing = Vec::new();
    for name in named_paths(text) {
        let here = root.join(folder).join(&name).exists();
        if !here && !root.join(&name).exists() {
            missing.push(format!("names {name}, which does not exist"));
        }
    }
    missing
}

fn named_paths(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            names.extend(line.split('`').skip(1).step_by(2).filter(|name| is_path(name)));
        }
    }
    names.into_iter().map(|name| name.trim_end_matches('/').to_owned()).collect()
}

/// Whether a word in backticks means a file of this repository.
fn is_path(word: &str) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    let folder = word.ends_with('/') && word.len() > 1;
    let file = word.contains('/') && LINKED_SUFFIXES.iter().any(|suffix| word.ends_with(suffix));
    let own = !ELSEWHERE.iter().any(|prefix| word.starts_with(prefix));
    own && word.chars().all(plain) && (folder || file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        source(file, text, &mut faults);
        faults
    }

    #[test]
    fn each_rule_finds_its_breach() {
        let ok = "//! What lives here.\n";
        assert!(found("a/src/a.rs", ok).is_empty());
        for (file, text) in [
            ("a/src/a.rs", "fn main() {}\n".to_owned()),
            ("a/src/a.rs", format!("{ok}#[ignore]\n")),
            ("a/src/a.rs", format!("{ok}const A: &str = \"/root/a\";\n")),
            ("a/src/a.rs", format!("{ok}{}", "//\n".repeat(FILE_LINES_MAX))),
            ("a/tests/other/main.rs", ok.to_owned()),
        ] {
            assert_eq!(found(file, &text).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_path_inside_another_is_not_of_this_machine() {
        assert!(!names_path("folder/root/x", "/root/"));
        assert!(names_path("\"/root/x\"", "/root/"));
    }

    #[test]
    fn paths_in_markdown_are_found_and_commands_are_not() {
        let text = "See `src/lib.rs`, `/etc/fleetd/config.yaml`, `xtask/`, `a/b`.\n\
                    ```\n`src/none.rs`\n```\n";
        assert_eq!(named_paths(text), ["src/lib.rs", "xtask"]);
    }
}
