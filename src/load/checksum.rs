//! CRC-32C of envelopes and bodies.
//!
//! # Background
//! The crate for it walks to an aligned address byte by byte, which is most of the work where the
//! piece is short and stands anywhere in a buffer. Here short pieces are taken in words from where
//! they begin. Long ones go to the crate, which works on three parts of a piece at a time.

/// From so many bytes on the crate is faster.
const LONG: usize = 768;

/// CRC-32C of the 40 bytes that these words are, little-endian.
#[inline]
pub fn of_words(words: [u64; 5]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has the instructions.
        return unsafe { hardware::of_words(words) };
    }
    let mut bytes = [0; 40];
    bytes.chunks_exact_mut(8).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_le_bytes()));
    crc32c::crc32c(&bytes)
}

/// CRC-32C of any bytes.
#[inline]
pub fn of_bytes(bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() < LONG && std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has the instructions.
        return unsafe { hardware::of_bytes(bytes) };
    }
    crc32c::crc32c(bytes)
}

#[cfg(target_arch = "x86_64")]
mod hardware {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};

    #[target_feature(enable = "sse4.2")]
    pub fn of_words(words: [u64; 5]) -> u32 {
        !(words.into_iter().fold(u64::from(u32::MAX), |crc, word| _mm_crc32_u64(crc, word)) as u32)
    }

    #[target_feature(enable = "sse4.2")]
    pub fn of_bytes(bytes: &[u8]) -> u32 {
        let (words, rest) = bytes.as_chunks::<8>();
        let crc = words.iter().fold(u64::from(u32::MAX), |crc, word| _mm_crc32_u64(crc, u64::from_le_bytes(*word)));
        let (halves, rest) = rest.as_chunks::<4>();
        let crc = halves.iter().fold(crc as u32, |crc, half| _mm_crc32_u32(crc, u32::from_le_bytes(*half)));
        !rest.iter().fold(crc, |crc, byte| _mm_crc32_u8(crc, *byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bit by bit, as the polynomial says: 0x1EDC6F41, reflected.
    fn by_bits(bytes: &[u8]) -> u32 {
        let bit = |crc: u32, _| (crc >> 1) ^ (0x82F6_3B78 & 0u32.wrapping_sub(crc & 1));
        !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
    }

    #[test]
    fn the_check_value_of_the_catalogue() {
        assert_eq!((of_bytes(b"123456789"), by_bits(b"123456789")), (0xE306_9283, 0xE306_9283));
    }

    proptest! {
        #[test]
        fn every_piece_anywhere_is_as_the_polynomial_says(
            bytes in prop::collection::vec(any::<u8>(), 0..2 * LONG), from in 0usize..16,
        ) {
            let piece = &bytes[from.min(bytes.len())..];
            prop_assert_eq!(of_bytes(piece), by_bits(piece));
        }
        #[test]
        fn words_are_their_bytes(words: [u64; 5]) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            prop_assert_eq!(of_words(words), by_bits(&bytes));
        }
    }
}
