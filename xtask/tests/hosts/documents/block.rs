//! Blocks of a document: what stands between fences, and for which host it is.
//!
//! Words behind the language say it, and GitHub shows none of them: `server` (which it is unless said
//! otherwise), `device`, `devices` or `operator`; `terminal` where a person is asked; `systemd` where
//! it takes a machine with packages on it; `exits=3` where that is how its commands end, `file=update.json` where it is one that they read.

use std::fs;
use std::path::Path;

/// Whose block it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Server,
    /// The first device.
    Device,
    /// Each device.
    Devices,
    Operator,
}

/// What stands between two fences.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// `README.md, line 12`.
    pub(crate) origin: String,
    pub(crate) language: String,
    pub(crate) place: Place,
    /// Whether a person sits there.
    pub(crate) on_terminal: bool,
    /// Whether it is for a machine with systemd and packages.
    pub(crate) on_systemd: bool,
    /// The file that it is, if its info says so.
    named: Option<String>,
    /// How its commands end.
    pub(crate) exits: i32,
    pub(crate) lines: Vec<String>,
}

/// One command of a block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) text: String,
    /// Whether it stands for others before it: `# Or …` is above it.
    pub(crate) is_instead: bool,
}

impl Block {
    fn new(origin: String, info: &str) -> Self {
        let mut words = info.split_whitespace();
        let mut block = Self {
            origin,
            language: words.next().unwrap_or_default().to_owned(),
            place: Place::Server,
            on_terminal: false,
            on_systemd: false,
            named: None,
            exits: 0,
            lines: Vec::new(),
        };
        for word in words {
            match word {
                "server" => block.place = Place::Server,
                "device" => block.place = Place::Device,
                "devices" => block.place = Place::Devices,
                "operator" => block.place = Place::Operator,
                "terminal" => block.on_terminal = true,
                "systemd" => block.on_systemd = true,
                _ => match word.split_once('=') {
                    Some(("exits", code)) => block.exits = code.parse().expect("an exit code"),
                    Some(("file", name)) => block.named = Some(format!("~/{name}")),
                    _ => panic!("{}: what is {word}?", block.origin),
                },
            }
        }
        block
    }

    pub(crate) fn is_shell(&self) -> bool {
        ["bash", "sh"].contains(&self.language.as_str())
    }

    /// Its commands, each on one line.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let (mut text, mut is_instead) = (String::new(), false);
        for line in &self.lines {
            if text.is_empty() && (line.trim().is_empty() || line.starts_with('#')) {
                is_instead |= line.starts_with("# Or ");
            } else if let Some(begun) = line.strip_suffix('\\') {
                text.push_str(begun.trim_start());
            } else {
                text.push_str(line.trim_start());
                steps.push(Step { text: std::mem::take(&mut text), is_instead });
                is_instead = false;
            }
        }
        assert!(text.is_empty(), "{}: it breaks off", self.origin);
        steps
    }

    /// The file that its info or its first line names, `# /etc/fleetd/config.yaml`, if either does.
    pub(crate) fn file(&self) -> Option<&str> {
        if self.named.is_some() {
            return self.named.as_deref();
        }
        let named = self.lines.first()?.strip_prefix("# ")?;
        named.starts_with(['/', '~']).then_some(named)
    }

    pub(crate) fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }
}

/// A document of the repository.
#[track_caller]
pub(crate) fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every block of a document.
#[track_caller]
pub(crate) fn blocks(name: &str) -> Vec<Block> {
    parse(name, &read(name))
}

fn parse(name: &str, text: &str) -> Vec<Block> {
    let (mut blocks, mut open) = (Vec::new(), None::<Block>);
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), open.as_mut()) {
            (Some(info), None) => {
                open = Some(Block::new(format!("{name}, line {}", number + 1), info));
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{name}: its last block has no end");
    blocks
}

#[test]
fn a_block_is_for_a_host_and_has_commands() {
    let text = "Text\n```bash device terminal exits=3\n# Look\na \\\n  --b\n\n# Or at once\nc\n```\n\
                ```yaml\n# /etc/a.yaml\nx: 1\n```\n";
    let [shell, file] = parse("A.md", text).try_into().expect("two");
    assert_eq!((shell.place, shell.on_terminal, shell.exits), (Place::Device, true, 3));
    assert_eq!(shell.origin, "A.md, line 2");
    let steps: Vec<_> =
        shell.steps().into_iter().map(|step| (step.text, step.is_instead)).collect();
    assert_eq!(steps, [("a --b".to_owned(), false), ("c".to_owned(), true)]);
    assert_eq!((file.is_shell(), file.file()), (false, Some("/etc/a.yaml")));
    assert_eq!(file.text(), "# /etc/a.yaml\nx: 1\n");
}
