//! gzip members (RFC 1952) around raw deflate.
//!
//! The member framing is ours rather than `flate2`'s because the end of a member has to be seen:
//! what follows may be another member, padding or garbage, and each member start is a place from
//! which decompression can begin. CRC-32 and length of every member are checked, but for one that
//! was begun in its middle: there the digest of the span decides. A caller who has a better time for
//! it takes the checking on himself, with what [`Gzip::member_end`] tells.

use super::boundary::{Boundary, Progress};
use super::deflate::{History, Inflate};
use super::error::Error;
use super::member::{MemberEnd, MemberSum};

const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;

/// Fixed part of a member header in bytes.
const HEADER_BYTES: usize = 10;
/// CRC-32 and length behind the deflate stream.
const TRAILER_BYTES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GzipState {
    /// Collecting the fixed header in `pending`.
    Header,
    /// The two length bytes of the extra field.
    ExtraLength,
    Extra {
        left: u16,
    },
    /// A NUL-terminated field.
    Name,
    Comment,
    HeaderCrc {
        left: u8,
    },
    /// The byte whose upper bits come first, where decoding begins in the middle.
    Prime {
        bits: u8,
    },
    Deflate,
    Trailer,
    /// After the last member: padding or garbage.
    Ignore,
}

#[derive(Debug)]
pub(super) struct Gzip {
    state: GzipState,
    flags: u8,
    /// Partial fixed-size fields.
    pending: Vec<u8>,
    inflate: Inflate,
    /// `None` in a member that was begun in its middle, and where the caller checks.
    sum: Option<MemberSum>,
    /// Whether members are checked here.
    checks: bool,
    /// The output of the member has begun, perhaps before this decoder.
    has_output: bool,
    /// The end of the member that ended last, until it was asked for.
    member_end: Option<MemberEnd>,
    members: u64,
    /// Return at the end of a block.
    pub(super) stop: bool,
    /// Stands between two blocks, with so many bits of the last byte unused.
    block_end: Option<u8>,
}

impl Gzip {
    pub(super) fn new() -> Gzip {
        Gzip {
            state: GzipState::Header,
            flags: 0,
            pending: Vec::with_capacity(HEADER_BYTES),
            inflate: Inflate::new(),
            sum: None,
            checks: true,
            has_output: false,
            member_end: None,
            members: 0,
            stop: false,
            block_end: None,
        }
    }

    /// Begins between two blocks. If there are `bits`, they are the upper ones of the first byte
    /// that comes.
    pub(super) fn resume(bits: u8, window: Vec<u8>) -> Gzip {
        let mut gzip = Gzip { has_output: true, ..Gzip::new() };
        gzip.inflate.resume(window);
        gzip.state = match bits {
            0 => GzipState::Deflate,
            bits => GzipState::Prime { bits },
        };
        gzip
    }

    /// The caller checks members, or needs no check.
    pub(super) fn leave_checks(&mut self) {
        self.checks = false;
        self.sum = None;
    }

    /// The end of the member that ended with the last call, if the caller has to check it.
    pub(super) fn member_end(&mut self) -> Option<MemberEnd> {
        self.member_end.take()
    }

    /// What matches copy from.
    pub(super) fn history(&mut self) -> &mut History {
        self.inflate.history()
    }

    /// Whether decoding can begin here, and how.
    pub(super) fn boundary(&self) -> Option<Boundary> {
        match self.state {
            GzipState::Header if self.pending.is_empty() => Some(Boundary::Start),
            GzipState::Deflate => self.block_end.map(|bits| Boundary::Block { bits }),
            _ => None,
        }
    }

    /// Decodes into `output` from `from` on; before that is what earlier calls have put there.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
        from: usize,
    ) -> Result<Progress, Error> {
        let mut rest = input;
        let mut at = from;
        while !rest.is_empty() || self.state == GzipState::Deflate {
            if self.state != GzipState::Deflate {
                let used = self.frame(rest)?;
                rest = &rest[used..];
                // The end of a member is a place to begin at: the caller may want to know.
                if self.boundary().is_some() {
                    break;
                }
                continue;
            }
            let step = self.inflate.run(rest, output, at, self.stop)?;
            if let Some(sum) = &mut self.sum {
                sum.update(&output[at..at + step.produced]);
            }
            self.has_output |= step.produced > 0;
            rest = &rest[step.consumed..];
            at += step.produced;
            if step.consumed > 0 || step.produced > 0 {
                self.block_end = step.block_end;
            }
            if step.ended {
                self.state = GzipState::Trailer;
                self.pending.clear();
                continue;
            }
            let stuck = step.consumed == 0 && step.produced == 0;
            if stuck || step.block_end.is_some() || at == output.len() {
                break;
            }
        }
        Ok(Progress { consumed: input.len() - rest.len(), produced: at - from })
    }

    /// Takes framing bytes: everything outside the deflate streams. Consumes at least one byte.
    fn frame(&mut self, input: &[u8]) -> Result<usize, Error> {
        match self.state {
            GzipState::Header => {
                let n = self.collect(input, HEADER_BYTES);
                // Behind the first member, only something with gzip's magic is another member.
                let magic = [0x1f, 0x8b];
                let seen = self.pending.len().min(magic.len());
                if self.pending[..seen] != magic[..seen] {
                    if self.members == 0 {
                        return Err(Error::Gzip("bad magic number"));
                    }
                    self.state = GzipState::Ignore;
                } else if self.pending.len() == HEADER_BYTES {
                    if self.pending[2] != 8 {
                        return Err(Error::Gzip("unknown compression method"));
                    }
                    self.flags = self.pending[3];
                    if self.flags & RESERVED != 0 {
                        return Err(Error::Gzip("reserved header flags"));
                    }
                    self.pending.clear();
                    self.next_field(GzipState::Header);
                }
                Ok(n)
            }
            GzipState::ExtraLength => {
                let n = self.collect(input, 2);
                if let [low, high] = self.pending[..] {
                    self.pending.clear();
                    match u16::from_le_bytes([low, high]) {
                        0 => self.next_field(GzipState::ExtraLength),
                        left => self.state = GzipState::Extra { left },
                    }
                }
                Ok(n)
            }
            GzipState::Extra { left } => {
                let n = input.len().min(usize::from(left));
                match left - n as u16 {
                    0 => self.next_field(GzipState::ExtraLength),
                    left => self.state = GzipState::Extra { left },
                }
                Ok(n)
            }
            GzipState::Name | GzipState::Comment => match input.iter().position(|b| *b == 0) {
                Some(nul) => {
                    self.next_field(self.state);
                    Ok(nul + 1)
                }
                None => Ok(input.len()),
            },
            GzipState::HeaderCrc { left } => {
                match left - 1 {
                    0 => self.next_field(self.state),
                    left => self.state = GzipState::HeaderCrc { left },
                }
                Ok(1)
            }
            GzipState::Prime { bits } => {
                self.inflate.prime(bits, input[0]);
                self.state = GzipState::Deflate;
                Ok(1)
            }
            GzipState::Trailer => {
                let n = self.collect(input, TRAILER_BYTES);
                if self.pending.len() == TRAILER_BYTES {
                    self.check_trailer()?;
                }
                Ok(n)
            }
            GzipState::Ignore | GzipState::Deflate => Ok(input.len()),
        }
    }

    /// Moves to the field that follows `done`, skipping those that the flags leave out.
    fn next_field(&mut self, done: GzipState) {
        let order = [
            (FEXTRA, GzipState::ExtraLength),
            (FNAME, GzipState::Name),
            (FCOMMENT, GzipState::Comment),
            (FHCRC, GzipState::HeaderCrc { left: 2 }),
        ];
        let after = match done {
            GzipState::Header => 0,
            GzipState::ExtraLength | GzipState::Extra { .. } => 1,
            GzipState::Name => 2,
            GzipState::Comment => 3,
            _ => 4,
        };
        self.state = order[after..]
            .iter()
            .find(|(flag, _)| self.flags & flag != 0)
            .map_or(GzipState::Deflate, |(_, state)| *state);
        if self.state == GzipState::Deflate {
            self.inflate.reset();
            self.sum = self.checks.then(MemberSum::default);
            self.has_output = false;
            self.block_end = None;
        }
    }

    fn check_trailer(&mut self) -> Result<(), Error> {
        if let Ok(trailer) = <[u8; TRAILER_BYTES]>::try_from(&self.pending[..]) {
            let end = MemberEnd::of(trailer);
            match &mut self.sum {
                Some(sum) => sum.check(end)?,
                // There may be very many of these, and nothing of them goes to the caller.
                None if !self.has_output => MemberSum::default().check(end)?,
                None => self.member_end = Some(end),
            }
        }
        self.pending.clear();
        self.members += 1;
        self.state = GzipState::Header;
        Ok(())
    }

    fn collect(&mut self, input: &[u8], want: usize) -> usize {
        let n = input.len().min(want - self.pending.len());
        self.pending.extend_from_slice(&input[..n]);
        n
    }

    pub(super) fn finish(&self) -> Result<(), Error> {
        match self.state {
            GzipState::Ignore => Ok(()),
            // One stray 0x1f at the end is garbage like any other.
            GzipState::Header if self.members > 0 && self.pending.len() < 2 => Ok(()),
            _ => Err(Error::Truncated("gzip")),
        }
    }
}
