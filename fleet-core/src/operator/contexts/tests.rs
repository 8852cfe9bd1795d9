//! What contexts promise: exact complaints, comments that stay, and one current context at most.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

struct Home(tempfile::TempDir);

impl Home {
    fn with(text: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(home.path().parent().unwrap()).unwrap();
        fs::write(home.path(), text).unwrap();
        home
    }

    fn path(&self) -> PathBuf {
        self.0.path().join(".config/fleetd/contexts.toml")
    }

    fn load(&self) -> Result<Contexts, ContextsError> {
        let home = self.0.path().as_os_str().to_owned();
        Contexts::load_in(&|name| (name == "HOME").then(|| home.clone()))
    }

    fn refusal(text: &str) -> String {
        let home = Self::with(text);
        let error = home.load().map(|_| ()).unwrap_err().to_string();
        let place = format!("{}, ", home.path().display());
        error.strip_prefix(&place).unwrap_or_else(|| panic!("{error}")).to_owned()
    }
}

const TWO: &str = r#"# mine
current = "prod" # careful

[contexts.prod]
server = "https://fleet.example:8080"
api_key_file = "~/prod.key"
colour = "red"
read_only = true

# the one under the desk
[contexts.lab]
server = "http://10.0.0.2:8080"
api_key_file = "lab.key"
"#;

#[test]
fn contexts_are_read() {
    let home = Home::with(TWO);
    let contexts = home.load().unwrap();
    assert_eq!(contexts.names().collect::<Vec<_>>(), ["lab", "prod"]);
    let prod = contexts.current().unwrap();
    assert_eq!(prod.server.to_string(), "https://fleet.example:8080");
    assert_eq!(prod.api_key_file, Some(home.0.path().join("prod.key")));
    assert_eq!((prod.colour, prod.is_read_only), (Some(ContextColour::Red), true));
    let lab = contexts.get("lab").unwrap();
    assert_eq!(lab.api_key_file, Some(home.path().with_file_name("lab.key")));
    assert_eq!((lab.colour, lab.is_read_only), (None, false));
}

#[test]
fn without_a_file_there_are_none() {
    let home = Home(tempfile::tempdir().unwrap());
    let contexts = home.load().unwrap();
    assert!(contexts.names().next().is_none() && contexts.current().is_none());
    let error = contexts.get("prod").unwrap_err().to_string();
    assert!(error.ends_with("contexts.toml has none"), "{error}");
    let nowhere = Contexts::load_in(&|_| None).unwrap_err();
    assert!(matches!(nowhere, ContextsError::NoFolder));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    for (text, told) in [
        ("curent = \"a\"\n", "line 1, column 1: unknown key; did you mean current?; known are"),
        ("\ncurrent = 3\n", "line 2, column 11: must be a text in quotes"),
        ("current = \"a\n", "line 1, column 13: "),
        ("contexts = 1\n", "line 1, column 12: must be a table"),
        ("[contexts.a]\ncolour = \"red\"\n", "line 1, column 11: must have a server"),
        ("[contexts.a]\nserver = \"ftp://x\"\n", "line 2, column 10: not a server URL"),
        ("[contexts.a]\nserver = \"http://x\"\nread_only = 1\n", "line 3, column 13: must be true"),
        (
            "[contexts.a]\nserver = \"http://x\"\ncolour = \"pink\"\n",
            "line 3, column 10: must be one",
        ),
        ("[contexts.a]\napi_key = \"flt_op_x\"\n", "line 2, column 1: a key has no place here"),
        ("[contexts.\"a b\"]\nserver = \"http://x\"\n", "line 1, column 11: cannot be a context's"),
        (
            "current = \"prd\"\n[contexts.prod]\nserver = \"http://x\"\n",
            "line 1, column 11: there is no such context; did you mean prod?",
        ),
    ] {
        let refusal = Home::refusal(text);
        assert!(refusal.starts_with(told), "{refusal}\n  for {text}");
        assert!(!refusal.contains("flt_op_x"), "a key is not repeated: {refusal}");
    }
}

#[test]
fn changes_keep_what_people_wrote() {
    let home = Home::with(TWO);
    let mut contexts = home.load().unwrap();
    contexts.choose("lab").unwrap();
    let update = ContextUpdate { is_read_only: Some(false), ..ContextUpdate::default() };
    contexts.set("prod", &update).unwrap();
    let expected = TWO
        .replace("current = \"prod\"", "current = \"lab\"")
        .replace("read_only = true", "read_only = false");
    assert_eq!(fs::read_to_string(home.path()).unwrap(), expected);

    contexts.remove("lab").unwrap();
    assert!(contexts.current().is_none());
    assert_eq!(home.load().unwrap().names().collect::<Vec<_>>(), ["prod"]);
    assert!(matches!(contexts.remove("lab"), Err(ContextsError::Unknown { .. })));
    assert!(matches!(contexts.choose("lab"), Err(ContextsError::Unknown { .. })));
}

#[test]
fn a_first_context_makes_a_file_for_its_owner_only() {
    let home = Home(tempfile::tempdir().unwrap());
    let mut contexts = home.load().unwrap();
    let update = ContextUpdate {
        server: Some("http://10.0.0.2:8080".parse().unwrap()),
        api_key_file: Some("/keys/\u{1b}[2J\"lab\"".into()),
        colour: Some(ContextColour::Blue),
        is_read_only: None,
    };
    assert!(matches!(contexts.set("no name", &update), Err(ContextsError::Name { .. })));
    let nothing = ContextUpdate::default();
    assert!(matches!(contexts.set("lab", &nothing), Err(ContextsError::NoServer { .. })));
    assert!(!home.path().exists());

    contexts.set("lab", &update).unwrap();
    let lab = home.load().unwrap().get("lab").unwrap().clone();
    assert_eq!(Some(&lab.server), update.server.as_ref());
    assert_eq!(lab.api_key_file, update.api_key_file);
    assert_eq!(lab.colour, update.colour);
    let text = fs::read_to_string(home.path()).unwrap();
    assert!(text.starts_with("[contexts.lab]\n"), "{text}");
    assert_eq!(fs::metadata(home.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_link_stays_a_link() {
    let home = Home::with(TWO);
    let real = home.0.path().join("real.toml");
    fs::rename(home.path(), &real).unwrap();
    std::os::unix::fs::symlink(&real, home.path()).unwrap();
    home.load().unwrap().choose("lab").unwrap();
    assert!(fs::symlink_metadata(home.path()).unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().contains("current = \"lab\""));
}

#[test]
fn tables_on_one_line_are_changed_too() {
    let home = Home::with("contexts = { prod = { server = \"http://prod:8080\" } }\n");
    let mut contexts = home.load().unwrap();
    let server = Some("http://lab:8080".parse().unwrap());
    contexts.set("lab", &ContextUpdate { server, ..ContextUpdate::default() }).unwrap();
    let update = ContextUpdate { is_read_only: Some(true), ..ContextUpdate::default() };
    contexts.set("prod", &update).unwrap();
    let read = home.load().unwrap();
    assert_eq!(read.names().collect::<Vec<_>>(), ["lab", "prod"], "{}", read.text);
    assert!(read.get("prod").unwrap().is_read_only);
}
