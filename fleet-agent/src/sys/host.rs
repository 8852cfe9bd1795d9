//! What this machine is: the facts that a device reports about itself.
//!
//! Every fact is text from files that a vendor or an owner wrote, so it is bounded here and shown
//! through `Untrusted` elsewhere. A fact that cannot be found is absent or empty, never an error:
//! a device without `/etc/os-release` is still a device.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::utsname::uname;

use super::SysRoot;

/// Characters of one fact.
const FACT_CHARS_MAX: usize = 256;
/// Addresses that are reported.
const ADDRESSES_MAX: usize = 32;

/// What a device says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The machine's own name.
    pub hostname: String,
    /// The family it belongs to.
    pub device_type: DeviceType,
    /// The exact board or product.
    pub model: Option<String>,
    /// The operating system, as it calls itself.
    pub os: Option<String>,
    /// The kernel's release.
    pub kernel: String,
    /// The processor architecture, such as `aarch64`.
    pub arch: String,
    /// Changes with every boot.
    pub boot_id: Option<String>,
    /// Processors that are online.
    pub cores: u32,
    /// Memory that the kernel manages.
    pub memory_bytes: Option<u64>,
    /// Addresses of the network interfaces, except loopback and link-local ones.
    pub addresses: Vec<String>,
}

impl HostFacts {
    /// Reads the facts anew; `device_type` decides over what the files suggest.
    pub fn read(root: &SysRoot, device_type: Option<DeviceType>) -> Self {
        let arch = arch(root);
        let board = board(root);
        Self {
            hostname: hostname(root),
            device_type: device_type.unwrap_or_else(|| detect(root, board.as_ref(), &arch)),
            model: board.map(|board| board.model).or_else(|| product(root)),
            os: os(root),
            kernel: line(root, "proc/sys/kernel/osrelease")
                .unwrap_or_else(|| uname_part(Part::Release)),
            arch,
            boot_id: line(root, "proc/sys/kernel/random/boot_id"),
            cores: cores(root),
            memory_bytes: memory_bytes(root),
            addresses: addresses(root),
        }
    }
}

/// The families of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceType {
    RaspberryPi,
    Jetson,
    BeagleBone,
    X86,
    Arm,
    Container,
    Other,
}

impl DeviceType {
    /// All of them, in the order in which they are listed to people.
    pub const ALL: [Self; 7] = [
        Self::RaspberryPi,
        Self::Jetson,
        Self::BeagleBone,
        Self::X86,
        Self::Arm,
        Self::Container,
        Self::Other,
    ];

    /// The word used in files and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RaspberryPi => "raspberrypi",
            Self::Jetson => "jetson",
            Self::BeagleBone => "beaglebone",
            Self::X86 => "x86",
            Self::Arm => "arm",
            Self::Container => "container",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for DeviceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no device type.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a device type (raspberrypi, jetson, beaglebone, x86, arm, container or other)")]
pub struct DeviceTypeError;

impl FromStr for DeviceType {
    type Err = DeviceTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(DeviceTypeError)
    }
}

/// What a device tree says.
struct Board {
    model: String,
    compatible: String,
}

fn board(root: &SysRoot) -> Option<Board> {
    ["proc/device-tree", "sys/firmware/devicetree/base"].into_iter().find_map(|tree| {
        let model = line(root, &format!("{tree}/model"))?;
        let compatible = root.text(format!("{tree}/compatible")).unwrap_or_default();
        Some(Board { model, compatible })
    })
}

/// A container says so first: the board below it belongs to somebody else.
fn detect(root: &SysRoot, board: Option<&Board>, arch: &str) -> DeviceType {
    if is_container(root) {
        return DeviceType::Container;
    }
    if let Some(board) = board {
        if board.model.contains("Raspberry Pi") {
            return DeviceType::RaspberryPi;
        }
        if board.model.contains("Jetson") || board.compatible.contains("nvidia,tegra") {
            return DeviceType::Jetson;
        }
        if board.model.contains("BeagleBone") || board.compatible.contains("beagle") {
            return DeviceType::BeagleBone;
        }
    }
    match arch {
        "x86_64" | "i686" | "i586" | "i486" | "i386" => DeviceType::X86,
        arch if arch.starts_with("arm") || arch.starts_with("aarch64") => DeviceType::Arm,
        _ => DeviceType::Other,
    }
}

/// The marks of Docker, Podman, and systemd-nspawn or LXC.
fn is_container(root: &SysRoot) -> bool {
    [".dockerenv", "run/.containerenv", "run/systemd/container"].iter().any(|mark| root.has(mark))
}

/// What the firmware of a PC says, unless its maker left the form blank.
fn product(root: &SysRoot) -> Option<String> {
    const BLANK: [&str; 5] = [
        "To Be Filled By O.E.M.",
        "System Product Name",
        "Default string",
        "None",
        "Not Specified",
    ];
    let written = |file| line(root, file).filter(|text| !BLANK.contains(&text.as_str()));
    let name = written("sys/class/dmi/id/product_name")?;
    Some(match written("sys/class/dmi/id/sys_vendor") {
        Some(vendor) if !name.starts_with(&vendor) => format!("{vendor} {name}"),
        _ => name,
    })
}

/// What the kernel goes by, as everything else on the machine does; of another machine's files,
/// the name that its owner wrote down.
fn hostname(root: &SysRoot) -> String {
    if root.is_real() {
        let name = uname_part(Part::Node);
        if !name.is_empty() {
            return name;
        }
    }
    let file = root.text("etc/hostname").unwrap_or_default();
    let mut lines = file.lines().map(str::trim);
    let written = lines.find(|line| !line.is_empty() && !line.starts_with('#')).map(cut);
    written
        .or_else(|| line(root, "proc/sys/kernel/hostname"))
        .unwrap_or_else(|| uname_part(Part::Node))
}

fn os(root: &SysRoot) -> Option<String> {
    let release = ["etc/os-release", "usr/lib/os-release"];
    let text = release.into_iter().find_map(|file| root.text(file).ok())?;
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| cut(value))
}

/// Kernels before 6.1 have no such file; then the machine this runs on must do.
fn arch(root: &SysRoot) -> String {
    line(root, "proc/sys/kernel/arch").unwrap_or_else(|| uname_part(Part::Machine))
}

fn cores(root: &SysRoot) -> u32 {
    let stat = root.text("proc/stat").unwrap_or_default();
    let is_core = |line: &&str| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    u32::try_from(stat.lines().filter(is_core).count()).unwrap_or(u32::MAX)
}

fn memory_bytes(root: &SysRoot) -> Option<u64> {
    let text = root.text("proc/meminfo").ok()?;
    crate::collect::memory::field_bytes(&text, "MemTotal")
}

/// A tree of files has no network of its own, so it reports no addresses.
fn addresses(root: &SysRoot) -> Vec<String> {
    if !root.is_real() {
        return Vec::new();
    }
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let up = interfaces.filter(|interface| {
        interface.flags.contains(InterfaceFlags::IFF_UP)
            && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
    });
    let mut addresses: Vec<IpAddr> = up
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
        })
        .filter(|address| !is_link_local(*address))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.iter().take(ADDRESSES_MAX).map(ToString::to_string).collect()
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[derive(Clone, Copy)]
enum Part {
    Node,
    Release,
    Machine,
}

fn uname_part(part: Part) -> String {
    let Ok(name) = uname() else { return String::new() };
    let text = match part {
        Part::Node => name.nodename(),
        Part::Release => name.release(),
        Part::Machine => name.machine(),
    };
    cut(&text.to_string_lossy())
}

fn line(root: &SysRoot, file: &str) -> Option<String> {
    root.line(file).map(|line| cut(&line))
}

fn cut(text: &str) -> String {
    text.chars().take(FACT_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(files: &[(&str, &str)]) -> HostFacts {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        HostFacts::read(&SysRoot::at(folder.path()), None)
    }

    #[test]
    fn this_machine_goes_by_its_kernels_name() {
        let facts = HostFacts::read(&SysRoot::real(), None);
        assert_eq!(facts.hostname, uname_part(Part::Node));
        assert_eq!(detected(&[("etc/hostname", "rpi4-001\n")]).hostname, "rpi4-001");
    }

    #[test]
    fn boards_are_told_apart() {
        const ARM: (&str, &str) = ("proc/sys/kernel/arch", "aarch64\n");
        const MODEL: &str = "proc/device-tree/model";
        for (files, device_type) in [
            (vec![ARM, (MODEL, "Raspberry Pi 4 Model B Rev 1.4\0")], DeviceType::RaspberryPi),
            (vec![ARM, (MODEL, "NVIDIA Jetson Nano Developer Kit\0")], DeviceType::Jetson),
            (
                vec![
                    ARM,
                    (MODEL, "quill\0"),
                    ("proc/device-tree/compatible", "nvidia,quill\0nvidia,tegra186\0"),
                ],
                DeviceType::Jetson,
            ),
            (vec![ARM, (MODEL, "TI AM335x BeagleBone Black\0")], DeviceType::BeagleBone),
            (vec![ARM, (MODEL, "Radxa ROCK 5B\0")], DeviceType::Arm),
            (vec![ARM, (MODEL, "Raspberry Pi 4\0"), (".dockerenv", "")], DeviceType::Container),
            (vec![("proc/sys/kernel/arch", "x86_64\n")], DeviceType::X86),
            (vec![("proc/sys/kernel/arch", "riscv64\n")], DeviceType::Other),
        ] {
            assert_eq!(detected(&files).device_type, device_type, "{files:?}");
        }
    }

    #[test]
    fn a_blank_form_is_no_model() {
        let vendor = ("sys/class/dmi/id/sys_vendor", "LENOVO\n");
        let name = "sys/class/dmi/id/product_name";
        assert_eq!(detected(&[vendor, (name, "20XW\n")]).model.as_deref(), Some("LENOVO 20XW"));
        assert_eq!(detected(&[vendor, (name, "To Be Filled By O.E.M.\n")]).model, None);
    }

    #[test]
    fn the_owner_has_the_last_word() {
        let facts = HostFacts::read(&SysRoot::real(), Some(DeviceType::Jetson));
        assert_eq!(facts.device_type, DeviceType::Jetson);
        assert!(facts.cores > 0 && !facts.kernel.is_empty() && !facts.hostname.is_empty());
    }

    #[test]
    fn a_fact_is_bounded() {
        let facts = detected(&[("etc/hostname", &"a".repeat(10_000))]);
        assert_eq!(facts.hostname.len(), FACT_CHARS_MAX);
    }
}
