//! Compression of a connection, as pure bytes: no IO in here.
//!
//! Both directions hand on what they have at the end of each batch. Reading goes in steps of bounded size, so
//! that a small input cannot grow into a large buffer before somebody looks at it.

use std::io::{self, Read, Write};

use bytes::{Buf, BufMut, BytesMut};
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

/// The most that one step of reading yields.
const STEP: usize = 64 * 1024;

/// What is sent.
pub(crate) enum Compressor {
    Plain,
    Snappy(Box<snap::write::FrameEncoder<Vec<u8>>>),
    Deflate(Box<Compress>),
}

impl Compressor {
    pub(crate) fn snappy() -> Self {
        Self::Snappy(Box::new(snap::write::FrameEncoder::new(Vec::new())))
    }

    /// Without the header of zlib.
    pub(crate) fn deflate(level: u8) -> Self {
        Self::Deflate(Box::new(Compress::new(flate2::Compression::new(u32::from(level.clamp(1, 9))), false)))
    }

    /// Turns a whole batch into what goes on the wire, complete: the peer can read all of it.
    pub(crate) fn batch(&mut self, batch: &mut BytesMut) -> io::Result<()> {
        match self {
            Self::Plain => Ok(()),
            Self::Snappy(encoder) => {
                encoder.write_all(batch)?;
                encoder.flush()?;
                batch.clear();
                batch.put_slice(encoder.get_ref());
                encoder.get_mut().clear();
                Ok(())
            }
            Self::Deflate(compress) => {
                *batch = deflate(compress, batch, FlushCompress::Sync)?;
                Ok(())
            }
        }
    }

    /// What ends the stream, so that the peer does not take it for one that broke.
    pub(crate) fn end(&mut self) -> io::Result<BytesMut> {
        match self {
            Self::Plain | Self::Snappy(_) => Ok(BytesMut::new()),
            Self::Deflate(compress) => deflate(compress, &[], FlushCompress::Finish),
        }
    }
}

fn deflate(compress: &mut Compress, mut input: &[u8], flush: FlushCompress) -> io::Result<BytesMut> {
    let mut out = Vec::with_capacity(input.len() + 64);
    loop {
        let before = compress.total_in();
        compress.compress_vec(input, &mut out, flush).map_err(io::Error::other)?;
        input = &input[taken(before, compress.total_in())..];
        // Room that is left over says that the flush is complete.
        if input.is_empty() && out.len() < out.capacity() {
            return Ok(BytesMut::from(&out[..]));
        }
        out.reserve(out.capacity().max(64));
    }
}

/// What is received.
pub(crate) enum Decompressor {
    Plain,
    Snappy(Box<snap::read::FrameDecoder<Chunk>>),
    Deflate(Box<Decompress>),
}

impl Decompressor {
    pub(crate) fn snappy() -> Self {
        Self::Snappy(Box::new(snap::read::FrameDecoder::new(Chunk::default())))
    }

    pub(crate) fn deflate() -> Self {
        Self::Deflate(Box::new(Decompress::new(false)))
    }

    /// Moves what one step can from `raw` to `plain`; false when more input is needed first.
    pub(crate) fn step(&mut self, raw: &mut BytesMut, plain: &mut BytesMut) -> io::Result<bool> {
        match self {
            Self::Plain => {
                let some = !raw.is_empty();
                plain.unsplit(raw.split());
                Ok(some)
            }
            Self::Snappy(decoder) => {
                let Some(len) = snappy_chunk(raw) else { return Ok(false) };
                decoder.get_mut().0.unsplit(raw.split_to(len));
                // A chunk holds at most 64 KiB by its format.
                let mut piece = [0; 8 * 1024];
                loop {
                    match decoder.read(&mut piece)? {
                        0 => return Ok(true),
                        read => plain.put_slice(&piece[..read]),
                    }
                }
            }
            Self::Deflate(decompress) => inflate(decompress, raw, plain),
        }
    }
}

fn inflate(decompress: &mut Decompress, raw: &mut BytesMut, plain: &mut BytesMut) -> io::Result<bool> {
    let (before_in, before_out) = (decompress.total_in(), decompress.total_out());
    let start = plain.len();
    plain.resize(start + STEP, 0);
    let status =
        decompress.decompress(raw, &mut plain[start..], FlushDecompress::None).map_err(io::Error::other)?;
    let read = taken(before_in, decompress.total_in());
    let wrote = taken(before_out, decompress.total_out());
    plain.truncate(start + wrote);
    raw.advance(read);
    if matches!(status, Status::StreamEnd) {
        return Err(io::Error::other("the compressed stream ended"));
    }
    Ok(read > 0 || wrote > 0)
}

fn taken(before: u64, after: u64) -> usize {
    usize::try_from(after - before).expect("no more than a buffer holds")
}

/// The length of the chunk at the beginning of `raw`, once all of it is here: one byte of type, three of
/// length, the data.
fn snappy_chunk(raw: &BytesMut) -> Option<usize> {
    let [_, a, b, c] = raw.first_chunk().copied()?;
    let len = 4 + usize::from(a) + (usize::from(b) << 8) + (usize::from(c) << 16);
    (raw.len() >= len).then_some(len)
}

/// Whole chunks for snappy's decoder, which cannot go on after half of one.
#[derive(Default)]
pub(crate) struct Chunk(BytesMut);

impl Read for Chunk {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf.len().min(self.0.len());
        self.0.copy_to_slice(&mut buf[..len]);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything arrives, in order, whatever the pieces, and each batch as soon as its last byte is here.
    fn round_trip(mut out: Compressor, mut back: Decompressor, batches: &[Vec<u8>], piece: usize) {
        let mut raw = BytesMut::new();
        for batch in batches {
            let mut wire = BytesMut::from(&batch[..]);
            out.batch(&mut wire).expect("memory");
            let mut plain = BytesMut::new();
            for part in wire.chunks(piece) {
                raw.extend_from_slice(part);
                while back.step(&mut raw, &mut plain).expect("valid") {}
            }
            assert_eq!(plain, batch);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn batches_come_back(
            seeds in prop::collection::vec((0_usize..200_000, any::<u8>(), any::<bool>()), 1..4),
            piece in 1_usize..5_000,
        ) {
            let batches: Vec<Vec<u8>> = seeds.iter().map(|(len, byte, noisy)| {
                (0..*len).map(|at| if *noisy { (at.wrapping_mul(2_654_435_761) >> 11).to_le_bytes()[0] } else { *byte }).collect()
            }).collect();
            round_trip(Compressor::snappy(), Decompressor::snappy(), &batches, piece);
            round_trip(Compressor::deflate(6), Decompressor::deflate(), &batches, piece);
            round_trip(Compressor::Plain, Decompressor::Plain, &batches, piece);
        }

        #[test]
        fn noise_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for mut back in [Decompressor::snappy(), Decompressor::deflate()] {
                let (mut raw, mut plain) = (BytesMut::from(&bytes[..]), BytesMut::new());
                while let Ok(true) = back.step(&mut raw, &mut plain) {}
            }
        }
    }

    #[test]
    fn a_stream_that_is_ended_is_no_broken_one() {
        let mut squeeze = Compressor::deflate(6);
        let mut wire = BytesMut::from(&b"hi"[..]);
        squeeze.batch(&mut wire).expect("memory");
        wire.unsplit(squeeze.end().expect("memory"));
        let mut text = String::new();
        flate2::read::DeflateDecoder::new(&wire[..]).read_to_string(&mut text).expect("complete");
        assert_eq!(text, "hi");
        assert!(Compressor::snappy().end().expect("nothing").is_empty());
    }

    #[test]
    fn a_step_is_bounded() {
        let mut wire = BytesMut::from(&vec![0; 8 << 20][..]);
        Compressor::deflate(6).batch(&mut wire).expect("memory");
        let mut plain = BytesMut::new();
        assert!(Decompressor::deflate().step(&mut wire, &mut plain).expect("valid"));
        assert_eq!(plain.len(), STEP);
    }
}
