//! Inspects a dump while it is made: whether it is whole, and what it holds.

use bytes::Bytes;

use super::{LEVEL, census::Census, contents};
use crate::{
    archive::Pulled,
    contents::Contents,
    format::{FormatError, Inspect},
};

/// An inspector that reads the dump on its own thread, and can be asked for the contents before its verdict.
pub(super) struct Recording {
    state: State,
}

enum State {
    Reading(Pulled<(Census, Contents)>),
    Read(Result<Census, FormatError>),
}

impl Recording {
    pub(super) fn start() -> Self {
        Self {
            state: State::Reading(Pulled::start(contents::take).at_level(LEVEL)),
        }
    }
}

impl Inspect for Recording {
    type Contents = Census;

    fn level(&self) -> i32 {
        LEVEL
    }

    fn inspect(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        self.inspect_chunk(&Bytes::copy_from_slice(bytes))
    }

    fn inspect_chunk(&mut self, chunk: &Bytes) -> Result<(), FormatError> {
        match &mut self.state {
            State::Reading(pulled) => pulled.inspect_chunk(chunk),
            State::Read(_) => Err(FormatError::CheckStopped),
        }
    }

    fn contents(&mut self) -> Contents {
        let read = State::Read(Err(FormatError::CheckStopped));
        let State::Reading(pulled) = std::mem::replace(&mut self.state, read) else {
            return Contents::default();
        };
        let (read, contents) = match pulled.finish() {
            Ok((census, contents)) => (Ok(census), contents),
            Err(error) => (Err(error), Contents::default()),
        };
        self.state = State::Read(read);
        contents
    }

    fn finish(self) -> Result<Census, FormatError> {
        match self.state {
            State::Reading(pulled) => pulled.finish().map(|(census, _)| census),
            State::Read(read) => read,
        }
    }
}
