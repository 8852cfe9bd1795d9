//! What devices ask their claimers to prove, as a person or a file gives it.
//!
//! Everything that was given is read before any device is looked for. A code that was not given is
//! asked for on a terminal, where a person chose the device; `--auto` leaves such a device alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::argv::HIDDEN_CODE;
use super::csv::{self, CsvError, Title};
use super::failure::Failure;
use super::output::Output;
use super::plan::{Configured, Plan};
use super::prompt;
use crate::api::{ClaimMode, DiscoverOutcome};
use crate::claim::{ClaimCode, ClaimKey, ClaimSecret};
use crate::id::DeviceId;
use crate::operator::claim::Target;
use crate::operator::standing::{WhyNot, unproven};
use crate::untrusted::{Untrusted, escaped};

/// Bytes of a file with a claim key.
const KEY_FILE_BYTES_MAX: u64 = 4 * 1024;
/// How often a mistyped code is asked for again.
const ANSWERS_MAX: usize = 3;

const CODE_TITLES: [Title; 2] =
    [Title { name: "device_id", is_needed: true }, Title { name: "code", is_needed: true }];

/// Where codes and the key are.
#[derive(Debug, Default, clap::Args)]
pub(super) struct SecretArgs {
    /// The claim code of the one device that asks for it; `sudo fleetd info` shows it there
    #[arg(long, value_name = "CODE", env = HIDDEN_CODE, hide_env = true, conflicts_with = "codes")]
    code: Option<String>,
    /// The claim codes of many devices: a CSV file with the titles device_id,code
    #[arg(long, value_name = "FILE")]
    codes: Option<PathBuf>,
    /// The claim key that the devices' owner put on them: a file with a line of hex or base64
    #[arg(long, value_name = "FILE", env = "FLEETD_CLAIM_KEY_FILE")]
    claim_key_file: Option<PathBuf>,
}

/// What was given.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    /// For the one device that asks for a code.
    code: Option<ClaimCode>,
    codes: BTreeMap<DeviceId, ClaimCode>,
    key: Option<ClaimKey>,
}

impl SecretArgs {
    /// Reads what was given.
    pub(super) fn read(&self) -> Result<Secrets, Failure> {
        let code = self.code.as_deref().map(str::parse).transpose();
        let code = code.map_err(|error| Failure::usage(format!("--code: {error}")))?;
        let codes = self.codes.as_deref().map(read_codes).transpose()?.unwrap_or_default();
        let key = self.claim_key_file.as_deref().map(read_key).transpose()?;
        Ok(Secrets { code, codes, key })
    }
}

fn read_codes(path: &Path) -> Result<BTreeMap<DeviceId, ClaimCode>, Failure> {
    let mut codes = BTreeMap::new();
    for row in csv::read(path, &CODE_TITLES)? {
        let wrong = |title: usize, problem: String| {
            let column = Some(CODE_TITLES[title].name.to_owned());
            CsvError { line: row.line, column, problem }.told(path)
        };
        let id: DeviceId = row.values[0].parse().map_err(|error| wrong(0, format!("{error}")))?;
        let code = row.values[1].parse().map_err(|error| wrong(1, format!("{error}")))?;
        if codes.insert(id.clone(), code).is_some() {
            return Err(wrong(0, format!("{id} has two codes")));
        }
    }
    Ok(codes)
}

fn read_key(path: &Path) -> Result<ClaimKey, Failure> {
    let shown = escaped(&path.to_string_lossy());
    let mut text = Zeroizing::new(String::new());
    let read =
        File::open(path).and_then(|file| file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| Failure::usage(format!("cannot read the claim key {shown}: {error}")))?;
    text.parse().map_err(|error| Failure::usage(format!("the claim key {shown}: {error}")))
}

impl Secrets {
    /// Finds what each device of the plan asks for, in the plan's order; devices whose secret nobody
    /// knows are left out of it. A person is asked where `may_ask`.
    pub(super) async fn assign(
        &self,
        plan: &mut Plan,
        may_ask: bool,
        output: &mut Output<'_>,
    ) -> Result<Vec<Option<ClaimSecret>>, Failure> {
        let wants_code = |target: &Target| target.claim == Some(ClaimMode::Code);
        let count = plan.go.iter().filter(|(_, target)| wants_code(target)).count();
        if self.code.is_some() && count > 1 {
            return Err(Failure::usage(format!(
                "--code is for one device, and {count} of these ask for their codes"
            ))
            .hint("name the device by --device, or give all codes by --codes FILE"));
        }
        let mut secrets = Vec::new();
        for (name, target) in std::mem::take(&mut plan.go) {
            let secret = match self.known(&target) {
                None if may_ask && wants_code(&target) => ask(&target.device_id, output).await?,
                known => known,
            };
            match unproven(target.claim, secret.as_ref()) {
                None => {
                    plan.go.push((name, target));
                    secrets.push(secret);
                }
                Some(no) => plan.done.push(refused(name, target.device_id, no)),
            }
        }
        Ok(secrets)
    }

    fn known(&self, target: &Target) -> Option<ClaimSecret> {
        match target.claim {
            Some(ClaimMode::Key) => self.key.clone().map(ClaimSecret::Key),
            Some(ClaimMode::Code) => {
                let code = self.codes.get(&target.device_id).or(self.code.as_ref());
                code.cloned().map(ClaimSecret::Code)
            }
            Some(ClaimMode::Open | ClaimMode::Disabled) | None => None,
        }
    }
}

fn refused(name: Untrusted, id: DeviceId, no: WhyNot) -> Configured {
    Configured {
        device_id: Some(id),
        name,
        status: DiscoverOutcome::Refused,
        reason: Some(no.reason),
        hint: no.hint.map(str::to_owned),
    }
}

/// Asks for a device's code; no answer leaves the device out.
async fn ask(id: &DeviceId, output: &mut Output<'_>) -> Result<Option<ClaimSecret>, Failure> {
    for _ in 0..ANSWERS_MAX {
        let question = format!("Claim code of {id} (sudo fleetd info shows it there): ");
        let Some(answer) = prompt::ask_line(&question, output).await? else { return Ok(None) };
        if answer.trim().is_empty() {
            return Ok(None);
        }
        match answer.parse() {
            Ok(code) => return Ok(Some(ClaimSecret::Code(code))),
            Err(error) => output.note(&format!("{error}"))?,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::DeviceState;
    use crate::cli::listed::Format;
    use crate::cli::output::Terminal;
    use crate::cli::plan::Missing;
    use crate::cli::plan::tests::sighting;
    use crate::cli::testing::written;

    const CODE: &str = "01010-1AAAA-AAAAA-AAAAA";

    fn plan(devices: &[(&str, ClaimMode)]) -> Plan {
        let sightings: Vec<_> = devices
            .iter()
            .map(|(id, mode)| {
                let mut seen = sighting(id, DeviceState::Unclaimed);
                seen.device.claim = Some(*mode);
                seen.target.as_mut().unwrap().claim = Some(*mode);
                seen
            })
            .collect();
        let places: Vec<usize> = (0..devices.len()).collect();
        Plan::of_chosen(&sightings, &places, Missing::default())
    }

    async fn assign(secrets: &Secrets, plan: &mut Plan) -> Result<Vec<bool>, Failure> {
        let (mut output, ..) = written(Format::Table, Terminal::default());
        let assigned = secrets.assign(plan, false, &mut output).await?;
        Ok(assigned.iter().map(Option::is_some).collect())
    }

    #[tokio::test]
    async fn each_device_gets_what_it_asks_for_and_is_left_alone_without() {
        use ClaimMode::{Code, Key, Open};
        let all = [("a", Open), ("bb", Code), ("ccc", Code), ("dddd", Key)];
        let mut bare = plan(&all);
        assert_eq!(assign(&Secrets::default(), &mut bare).await.unwrap(), [false]);
        let told: Vec<_> = bare.done.iter().filter_map(|done| done.reason.as_deref()).collect();
        let code = "it asks for its claim code";
        assert_eq!(told, [code, code, "it asks for the claim key of its owner"]);

        let folder = tempfile::tempdir().unwrap();
        let (codes, key) = (folder.path().join("codes.csv"), folder.path().join("key"));
        std::fs::write(&codes, format!("device_id,code\nbb,{CODE}\n")).unwrap();
        std::fs::write(&key, format!("{}\n", "ab".repeat(32))).unwrap();
        let args = SecretArgs { code: None, codes: Some(codes), claim_key_file: Some(key) };
        let mut some = plan(&all);
        let assigned = assign(&args.read().unwrap(), &mut some).await.unwrap();
        assert_eq!((assigned.as_slice(), some.done.len()), (&[false, true, true][..], 1));

        let args = SecretArgs { code: Some(CODE.to_lowercase()), ..SecretArgs::default() };
        let one = args.read().unwrap();
        assert_eq!(assign(&one, &mut plan(&all[..2])).await.unwrap(), [false, true]);
        let two = assign(&one, &mut plan(&all)).await.unwrap_err();
        assert!(two.message().contains("2 of these"), "{two:?}");
    }

    #[test]
    fn what_cannot_be_read_is_told_before_any_device_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let count = std::fs::read_dir(folder.path()).unwrap().count();
            let path = folder.path().join(count.to_string());
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let codes = |text: &str| SecretArgs { codes: file(text), ..SecretArgs::default() };
        let key = |text| SecretArgs { claim_key_file: file(text), ..SecretArgs::default() };
        let gone = Some(folder.path().join("gone"));
        for (args, told) in [
            (SecretArgs { code: Some("X".to_owned()), ..SecretArgs::default() }, "--code: a claim"),
            (codes("device_id,code\na,X\n"), "line 2, column code: a claim code has 20"),
            (codes(&format!("device_id,code\na b,{CODE}\n")), "line 2, column device_id"),
            (codes(&format!("device_id,code\na,{CODE}\na,{CODE}\n")), "line 3, column device_id"),
            (key("secret"), "neither hex nor base64"),
            (SecretArgs { claim_key_file: gone, ..SecretArgs::default() }, "cannot read"),
        ] {
            let failure = args.read().unwrap_err();
            assert!(failure.message().contains(told), "{failure:?}");
        }
    }
}
