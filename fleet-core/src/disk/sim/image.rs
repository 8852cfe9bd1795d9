//! A folder's files as one piece of bytes, which a fuzzer can alter and a person can look at.
//!
//! ```text
//! image = {"\n== ", name, "\n", contents}
//! ```
//!
//! There are no lengths: whatever is put in or taken out changes the file in which it is, and no
//! other.

use super::SimDisk;
use crate::disk::Disk as _;
use crate::frames;

const BEGIN: &[u8] = b"\n== ";

/// The files of a disk, in the order of their names. Zeros at their ends, which are room for more,
/// are left out.
pub fn of(disk: &SimDisk) -> Vec<u8> {
    let mut names = disk.names().unwrap_or_default();
    names.sort_unstable();
    let mut image = Vec::new();
    for name in names {
        image.extend([BEGIN, name.as_bytes(), b"\n"].concat());
        let contents = disk.contents(&name).unwrap_or_default();
        let end = contents.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        image.extend(&contents[..end]);
    }
    image
}

/// A disk with the files of an image, as far as it is one. Frames in them have the checksums that
/// belong to their payloads, which chance would never find.
pub fn mended(image: &[u8]) -> SimDisk {
    let disk = SimDisk::new(0);
    for file in files(image) {
        let end = file.iter().position(|byte| *byte == b'\n').unwrap_or(file.len());
        let (Ok(name), mut contents) =
            (str::from_utf8(&file[..end]), file.get(end + 1..).unwrap_or_default().to_vec())
        else {
            continue;
        };
        frames::mend(&mut contents);
        // A second file of a name takes the place of the first.
        let _ = disk.create(name);
        disk.rot(name, |bytes| *bytes = contents);
    }
    let _ = disk.sync();
    disk
}

fn files(image: &[u8]) -> Vec<&[u8]> {
    let mut begins: Vec<usize> =
        (0..image.len()).filter(|at| image[*at..].starts_with(BEGIN)).collect();
    begins.push(image.len());
    begins
        .windows(2)
        .map(|pair| &image[pair[0] + BEGIN.len()..pair[1].max(pair[0] + BEGIN.len())])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_comes_back_with_its_sums_mended() {
        let mut frame = Vec::new();
        frames::put(&mut frame, |out| out.extend(b"payload"));
        let disk = SimDisk::new(1);
        for (name, contents) in [("one", &frame[..]), ("two", b""), ("three", b"\n=\n==")] {
            disk.create(name).unwrap().write_at(contents, 0).unwrap();
        }
        let image = of(&disk);
        assert_eq!(of(&mended(&image)), image);
        let altered: Vec<u8> =
            image.iter().map(|byte| if *byte == b'y' { b'Y' } else { *byte }).collect();
        let contents = mended(&altered).contents("one").unwrap();
        let found: Vec<_> = frames::read(&contents).collect();
        assert_eq!(found, [frames::Found::Frame { at: 0, payload: b"paYload" }]);
        assert!(of(&mended(b"\n== \xff\n\n==")).is_empty());
    }
}
