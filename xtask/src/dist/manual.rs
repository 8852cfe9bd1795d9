//! Manual pages and shell completions, as an example of this package writes them from the programs'
//! own command lines.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::{succeed, tree::Tree};
use crate::cargo::{cargo, target_folder};

/// A shell, what its file for a program is called, and where Debian's shell looks for it.
type Shell = (&'static str, fn(&str) -> String, &'static str);

const SHELLS: [Shell; 3] = [
    ("bash", |program| format!("{program}.bash"), "usr/share/bash-completion/completions"),
    ("zsh", |program| format!("_{program}"), "usr/share/zsh/vendor-completions"),
    ("fish", |program| format!("{program}.fish"), "usr/share/fish/vendor_completions.d"),
];

/// Those of all programs; they are removed when this is dropped.
pub(super) struct Manual(TempDir);

impl Manual {
    /// Builds what writes them as tests are built, which is the fastest where tests have been, and
    /// has it write them.
    pub(super) fn write() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let build = ["build", "--workspace", "--all-features", "--bins", "--example", "manual"];
        succeed(cargo().args(build))?;
        let writer = target_folder().join("debug/examples/manual");
        succeed(Command::new(writer).arg(folder.path()))?;
        Ok(Self(folder))
    }

    /// Every setting, as a document.
    pub(super) fn settings(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.0.path().join("configuration.md"))?)
    }

    /// Adds a program's own to a tree.
    pub(super) fn lay(&self, program: &str, tree: &mut Tree) -> anyhow::Result<()> {
        let mut pages = 0;
        for page in fs::read_dir(self.0.path().join("man"))? {
            let page = page?.path();
            let name = page.file_name().and_then(|name| name.to_str()).context("a page's name")?;
            if is_of(name, program) {
                let text = fs::read_to_string(&page)?;
                tree.packed(&format!("usr/share/man/man1/{name}.gz"), &text)?;
                pages += 1;
            }
        }
        ensure!(pages > 0, "there are no manual pages of {program}");
        for (shell, name, place) in SHELLS {
            let name = name(program);
            let from = self.0.path().join(shell).join(&name);
            let name = Path::new(&name).file_name().context("a file's name")?.to_string_lossy();
            // bash looks for the program's bare name.
            tree.copy(&from, &format!("{place}/{}", name.trim_end_matches(".bash")))?;
        }
        Ok(())
    }
}

/// Whether a page is about a program, or one of its commands: `fleets.1`, `fleets-devices-list.1`.
fn is_of(page: &str, program: &str) -> bool {
    page.strip_prefix(program).is_some_and(|rest| rest == ".1" || rest.starts_with('-'))
}
