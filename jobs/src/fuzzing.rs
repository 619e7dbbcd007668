//! The laws that the fuzz targets in `fuzz/` call, about bytes of any origin. Built for fuzzing only.

mod redis_rdb;

use crate::format::mongodump::{Body, FormatError, Prelude, Reader, Summary, Visit};

pub use redis_rdb::redis_rdb;

/// Reads bytes as an archive of `mongodump`: whole, and in pieces whose length is the first byte.
///
/// Both reads must end the same way, and an archive that was read must be readable again after it is rewritten.
pub fn mongodb_archive(bytes: &[u8]) {
    let Some((piece, archive)) = bytes.split_first() else {
        return;
    };
    let whole = read(archive.chunks(usize::MAX), ());
    let in_pieces = read(archive.chunks(usize::from(*piece).max(1)), ());
    assert_eq!(whole, in_pieces, "pieces do not matter");
    let Ok((summary, copy)) = read(archive.chunks(4096), Rewrite::default()) else {
        assert!(whole.is_err(), "a visitor does not matter");
        return;
    };
    let (again, ()) = read(std::iter::once(copy.out.as_slice()), ()).unwrap_or_default();
    assert_eq!(
        again.namespaces, summary.namespaces,
        "a copy holds the same"
    );
}

fn read<'a, V: Visit>(
    pieces: impl Iterator<Item = &'a [u8]>,
    visit: V,
) -> Result<(Summary, V), FormatError> {
    let mut reader = Reader::new(visit);
    for piece in pieces {
        reader.feed(piece)?;
    }
    reader.finish()
}

/// Writes what it visits.
#[derive(Default)]
struct Rewrite {
    out: Vec<u8>,
    bodies: Vec<Option<Body>>,
}

impl Visit for Rewrite {
    fn prelude(&mut self, prelude: &Prelude) -> Result<(), FormatError> {
        let begin = |it| Some(Body::new(&prelude.header, it));
        self.bodies = prelude.namespaces.iter().map(begin).collect();
        prelude.write(&mut self.out)
    }

    fn document(&mut self, namespace: usize, raw: &[u8]) -> Result<(), FormatError> {
        match self.bodies.get_mut(namespace) {
            Some(Some(body)) => body.block([raw], &mut self.out),
            Some(None) | None => Err(unexpected("a document")),
        }
    }

    fn end(&mut self, namespace: usize) -> Result<(), FormatError> {
        let body = self.bodies.get_mut(namespace).and_then(Option::take);
        body.ok_or(unexpected("an end"))?.end(&mut self.out);
        Ok(())
    }
}

fn unexpected(what: &str) -> FormatError {
    let why = format!("{what} of a namespace that is not open");
    FormatError::Refused { why }
}
