//! Links of Markdown texts: the file that each leads to, from where the text is, and the heading
//! there, by the name that GitHub gives it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Links of a text that lead nowhere.
pub(super) fn broken(root: &Path, file: &str, text: &str) -> Vec<String> {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let mut broken = Vec::new();
    for link in links(text) {
        let (name, anchor) = link.split_once('#').unwrap_or((&link, ""));
        let path = if name.is_empty() { PathBuf::from(file) } else { folder.join(name) };
        let path = root.join(path);
        if !path.exists() {
            broken.push(format!("links to {link}, which does not exist"));
        } else if !anchor.is_empty() {
            // What is no text has no headings.
            let other = fs::read_to_string(&path).unwrap_or_default();
            if !anchors(&other).iter().any(|known| known == anchor) {
                broken.push(format!("links to {link}, where there is no such heading"));
            }
        }
    }
    broken
}

/// Lines that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !is_fence && !in_code
    })
}

/// Where links lead that stay within the repository.
fn links(text: &str) -> Vec<String> {
    // A link's text may go over the end of a line, its target never does.
    let targets = prose(text).flat_map(|line| line.split("](").skip(1));
    let targets = targets.filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets.filter(|target| !target.contains(':')).map(str::to_owned).collect()
}

/// The names of a text's headings, of which a second like the first ends in `-1`.
fn anchors(text: &str) -> Vec<String> {
    let mut seen = BTreeMap::new();
    let headings = prose(text).filter_map(|line| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len()).then(|| title.strip_prefix(' '))?
    });
    let mut names = Vec::new();
    for heading in headings {
        let name: String = heading.trim().to_lowercase().chars().filter_map(sign).collect();
        let before = seen.entry(name.clone()).or_insert(0_u32);
        names.push(if *before == 0 { name } else { format!("{name}-{before}") });
        *before += 1;
    }
    names
}

/// What becomes of a sign of a heading.
fn sign(c: char) -> Option<char> {
    match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        _ => c.is_alphanumeric().then_some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_have_the_names_that_github_gives_them() {
        let text = "# A `b`: C, d\n```\n# no heading\n```\n## Send (it)\n## Send it\n#tag\n";
        assert_eq!(anchors(text), ["a-b-c-d", "send-it", "send-it-1"]);
    }

    #[test]
    fn a_link_leads_to_a_file_and_a_heading_of_it() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("docs")).unwrap();
        fs::write(root.path().join("docs/a.md"), "# Here\n").unwrap();
        fs::write(root.path().join("LICENSE"), "").unwrap();
        let found = |text: &str| broken(root.path(), "docs/b.md", text);
        for good in ["[a](a.md#here)", "[l](../LICENSE)", "[x](https://x.example/#y)"] {
            assert_eq!(found(good), [""; 0], "{good}");
        }
        for bad in ["[a](a.md#there)", "[a](c.md)", "[l](LICENSE)"] {
            assert_eq!(found(bad).len(), 1, "{bad}");
        }
        fs::write(root.path().join("docs/b.md"), "# Mine\n").unwrap();
        assert_eq!(found("[m](#mine)"), [""; 0]);
        assert_eq!(found("```\n[a](c.md)\n```\n"), [""; 0]);
        assert_eq!(found("[o](#other)").len(), 1);
    }
}
