//! gzip members (RFC 1952) around raw deflate.
//!
//! The member framing is ours rather than `flate2`'s because the end of a member has to be seen:
//! what follows may be another member, padding or garbage, and each member start is a place from
//! which decompression can be resumed. CRC-32 and length of every member are checked.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::{Error, Progress};

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
enum State {
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
    Deflate,
    Trailer,
    /// After the last member: padding or garbage.
    Ignore,
}

#[derive(Debug)]
pub(super) struct Gzip {
    state: State,
    flags: u8,
    /// Partial fixed-size fields.
    pending: Vec<u8>,
    inflate: Decompress,
    crc: Crc,
    members: u64,
}

impl Gzip {
    pub(super) fn new() -> Gzip {
        Gzip {
            state: State::Header,
            flags: 0,
            pending: Vec::with_capacity(HEADER_BYTES),
            inflate: Decompress::new(false),
            crc: Crc::new(),
            members: 0,
        }
    }

    pub(super) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<Progress, Error> {
        let mut rest = input;
        let mut produced = 0;
        while !rest.is_empty() || self.state == State::Deflate {
            if self.state != State::Deflate {
                let used = self.frame(rest)?;
                rest = &rest[used..];
                continue;
            }
            let room = &mut output[produced..];
            let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self
                .inflate
                .decompress(rest, room, FlushDecompress::None)
                .map_err(|_| Error::Gzip("invalid deflate data"))?;
            let took = (self.inflate.total_in() - before_in) as usize;
            let gave = (self.inflate.total_out() - before_out) as usize;
            self.crc.update(&room[..gave]);
            rest = &rest[took..];
            produced += gave;
            match status {
                Status::StreamEnd => {
                    self.state = State::Trailer;
                    self.pending.clear();
                }
                Status::Ok | Status::BufError if took == 0 && gave == 0 => break,
                Status::Ok | Status::BufError => {}
            }
            if produced == output.len() && self.state == State::Deflate {
                break;
            }
        }
        Ok(Progress { consumed: input.len() - rest.len(), produced })
    }

    /// Takes framing bytes: everything outside the deflate streams. Consumes at least one byte.
    fn frame(&mut self, input: &[u8]) -> Result<usize, Error> {
        match self.state {
            State::Header => {
                let n = self.collect(input, HEADER_BYTES);
                // Behind the first member, only something with gzip's magic is another member.
                let magic = [0x1f, 0x8b];
                let seen = self.pending.len().min(magic.len());
                if self.pending[..seen] != magic[..seen] {
                    if self.members == 0 {
                        return Err(Error::Gzip("bad magic number"));
                    }
                    self.state = State::Ignore;
                } else if self.pending.len() == HEADER_BYTES {
                    if self.pending[2] != 8 {
                        return Err(Error::Gzip("unknown compression method"));
                    }
                    self.flags = self.pending[3];
                    if self.flags & RESERVED != 0 {
                        return Err(Error::Gzip("reserved header flags"));
                    }
                    self.pending.clear();
                    self.next_field(State::Header);
                }
                Ok(n)
            }
            State::ExtraLength => {
                let n = self.collect(input, 2);
                if let [low, high] = self.pending[..] {
                    self.pending.clear();
                    match u16::from_le_bytes([low, high]) {
                        0 => self.next_field(State::ExtraLength),
                        left => self.state = State::Extra { left },
                    }
                }
                Ok(n)
            }
            State::Extra { left } => {
                let n = input.len().min(usize::from(left));
                match left - n as u16 {
                    0 => self.next_field(State::ExtraLength),
                    left => self.state = State::Extra { left },
                }
                Ok(n)
            }
            State::Name | State::Comment => match input.iter().position(|b| *b == 0) {
                Some(nul) => {
                    self.next_field(self.state);
                    Ok(nul + 1)
                }
                None => Ok(input.len()),
            },
            State::HeaderCrc { left } => {
                match left - 1 {
                    0 => self.next_field(self.state),
                    left => self.state = State::HeaderCrc { left },
                }
                Ok(1)
            }
            State::Trailer => {
                let n = self.collect(input, TRAILER_BYTES);
                if self.pending.len() == TRAILER_BYTES {
                    self.check_trailer()?;
                }
                Ok(n)
            }
            State::Ignore | State::Deflate => Ok(input.len()),
        }
    }

    /// Moves to the field that follows `done`, skipping those that the flags leave out.
    fn next_field(&mut self, done: State) {
        let order = [
            (FEXTRA, State::ExtraLength),
            (FNAME, State::Name),
            (FCOMMENT, State::Comment),
            (FHCRC, State::HeaderCrc { left: 2 }),
        ];
        let after = match done {
            State::Header => 0,
            State::ExtraLength | State::Extra { .. } => 1,
            State::Name => 2,
            State::Comment => 3,
            _ => 4,
        };
        self.state = order[after..]
            .iter()
            .find(|(flag, _)| self.flags & flag != 0)
            .map_or(State::Deflate, |(_, state)| *state);
        if self.state == State::Deflate {
            self.inflate.reset(false);
            self.crc.reset();
        }
    }

    fn check_trailer(&mut self) -> Result<(), Error> {
        let (crc, length) = self.pending.split_at(4);
        if crc != self.crc.sum().to_le_bytes() {
            return Err(Error::Gzip("checksum mismatch"));
        }
        if length != self.crc.amount().to_le_bytes() {
            return Err(Error::Gzip("length mismatch"));
        }
        self.pending.clear();
        self.members += 1;
        self.state = State::Header;
        Ok(())
    }

    fn collect(&mut self, input: &[u8], want: usize) -> usize {
        let n = input.len().min(want - self.pending.len());
        self.pending.extend_from_slice(&input[..n]);
        n
    }

    pub(super) fn finish(&self) -> Result<(), Error> {
        match self.state {
            State::Ignore => Ok(()),
            // One stray 0x1f at the end is garbage like any other.
            State::Header if self.members > 0 && self.pending.len() < 2 => Ok(()),
            _ => Err(Error::Truncated("gzip")),
        }
    }
}
