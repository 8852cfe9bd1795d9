//! Writes the manual pages and shell completions of all programs, as their own command lines are
//! defined: `manual FOLDER` fills `FOLDER/man`, `FOLDER/bash`, `FOLDER/zsh` and `FOLDER/fish`; and
//! in `FOLDER/configuration.md` every setting.
//!
//! `cargo xtask dist` and `cargo xtask docs` run it. It is an example so that chores need not be built with all programs
//! in them.

mod settings;

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).context("usage: manual FOLDER")?;
    let folder = Path::new(&folder);
    let programs =
        [fleet_server::cli::command(), fleet_agent::cli::command(), fleet_tui::cli::command()];
    for program in programs {
        write(program, folder).with_context(|| format!("cannot write to {}", folder.display()))?;
    }
    fs::write(folder.join("configuration.md"), settings::document()?)?;
    Ok(())
}

fn write(mut program: Command, folder: &Path) -> anyhow::Result<()> {
    let name = program.get_name().to_owned();
    for shell in SHELLS {
        let folder = folder.join(shell.to_string());
        fs::create_dir_all(&folder)?;
        clap_complete::generate_to(shell, &mut program.clone(), &name, folder)?;
    }
    // A page stands for the release; which commit it is of is the program's to say.
    program = program.version(fleet_core::VERSION);
    let pages = folder.join("man");
    fs::create_dir_all(&pages)?;
    Ok(clap_mangen::generate_to(program, pages)?)
}
