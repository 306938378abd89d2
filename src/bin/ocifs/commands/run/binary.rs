//! Why a file that is there can't be run: the kernel says "no such file" for a missing interpreter too, and "exec
//! format error" for another machine's programs.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::io::Errno;

/// As much of a file as is looked at, in bytes: the kernel looks at no more of a first line (`BINPRM_BUF_SIZE`).
const HEAD_BYTES: usize = 256;

/// Longest path of an interpreter.
const MAX_PATH_BYTES: usize = 4096;

/// `e_machine` of ELF, and Go's name of the architecture.
const MACHINES: [(u16, &str); 9] = [
    (62, "amd64"),
    (183, "arm64"),
    (3, "386"),
    (40, "arm"),
    (243, "riscv64"),
    (21, "ppc64le"),
    (22, "s390x"),
    (8, "mips64le"),
    (258, "loong64"),
];

/// Why a program can't be started, if it can be told. `architecture` is what the image says that it is for.
pub(super) fn why(path: &Path, architecture: &str, error: &io::Error) -> Option<String> {
    let errno = Errno::from_io_error(error)?;
    if path.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Some("it is a directory".to_owned());
    }
    if errno == Errno::ACCESS {
        return Some("it may not be run: its mode or owner does not let this user".to_owned());
    }
    let file = File::open(path).ok()?;
    let mut head = Vec::new();
    (&file).take(HEAD_BYTES as u64).read_to_end(&mut head).ok()?;
    let here = here();
    match machine(&head) {
        Some(machine) if machine != here => {
            let hint = match architecture == machine {
                true => {
                    "choose another platform with --platform if the image has one, or install an emulator \
                         (Debian: `apt install qemu-user-static`)"
                }
                false => "the image says that it is for another",
            };
            Some(format!(
                "exec format error: it is a program for {machine}, and this machine is {here}; {hint}"
            ))
        }
        Some(_) => {
            let interpreter = elf_interpreter(&file, &head)?;
            missing(&interpreter)
        }
        None if head.starts_with(b"#!") => {
            let line = head[2..].split(|byte| *byte == b'\n').next()?;
            let mut words = line.split(|byte| byte.is_ascii_whitespace());
            missing(words.find(|word| !word.is_empty())?)
        }
        None if errno == Errno::NOEXEC || error.kind() == ErrorKind::NotFound => {
            Some("exec format error: it is neither a program nor a script with `#!`".to_owned())
        }
        None => None,
    }
}

/// The name of this machine's architecture.
fn here() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        "loongarch64" => "loong64",
        other => other,
    }
}

/// For which machine an ELF file is; one of an unknown machine has a number.
fn machine(head: &[u8]) -> Option<String> {
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let number = number(head, 18, 2)?;
    let known = MACHINES.iter().find(|(machine, _)| u64::from(*machine) == number);
    Some(known.map_or_else(|| format!("machine {number}"), |(_, name)| (*name).to_owned()))
}

/// A number of some bytes at a place, in the order of the file.
fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let is_big = *bytes.get(5)? == 2;
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
    Some(if is_big { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) })
}

/// The interpreter that an ELF file of 64 bits names (`PT_INTERP`).
fn elf_interpreter(file: &File, head: &[u8]) -> Option<Vec<u8>> {
    const PT_INTERP: u64 = 3;
    if *head.get(4)? != 2 {
        return None;
    }
    let (offset, size, count) = (number(head, 32, 8)?, number(head, 54, 2)?, number(head, 56, 2)?);
    for at in 0..count {
        let mut header = head[..16].to_vec();
        let mut entry = [0; 56];
        file.read_exact_at(&mut entry, offset.checked_add(at * size)?).ok()?;
        // In front of it what says the order of bytes.
        header.extend(entry);
        if number(&header, 16, 4)? != PT_INTERP {
            continue;
        }
        let (place, length) = (number(&header, 16 + 8, 8)?, number(&header, 16 + 32, 8)?);
        let length = usize::try_from(length).ok().filter(|length| *length <= MAX_PATH_BYTES)?;
        let mut path = vec![0; length];
        file.read_exact_at(&mut path, place).ok()?;
        path.truncate(path.iter().position(|byte| *byte == 0).unwrap_or(length));
        return Some(path);
    }
    None
}

fn missing(interpreter: &[u8]) -> Option<String> {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new(std::ffi::OsStr::from_bytes(interpreter));
    (!path.exists()).then(|| format!("its interpreter {} is not in the image", path.display()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_this_machine_and_others() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(machine(&own[..HEAD_BYTES]).as_deref(), Some(here()));
        let file = File::open("/proc/self/exe").unwrap();
        let interpreter = elf_interpreter(&file, &own[..HEAD_BYTES]);
        assert!(interpreter.is_none_or(|path| path.starts_with(b"/") && missing(&path).is_none()));
        let mut other = own[..HEAD_BYTES].to_vec();
        other[18] = 22;
        assert_eq!(machine(&other).as_deref(), Some("s390x"));
        other[5] = 2;
        assert_eq!(machine(&other).as_deref(), Some("machine 5632"));
        assert_eq!((machine(b"#!/bin/sh"), machine(b"\x7fELF")), (None, None));
    }
}
