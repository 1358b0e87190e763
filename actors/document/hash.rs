//! PostgreSQL's `hashtextextended` (Bob Jenkins' lookup3, 2006), so that both sides can name a text by the same 64 bits.
//! The server computes it at a fraction of the cost of MD5. It is as a server on a little-endian machine has it.

/// What every hash begins with, beside the length.
const BEGINNING: u32 = 0x9e37_79b9 + 3_923_095;

/// Hashes a text; another seed gives a hash that has nothing to do with it.
pub fn hash(text: &[u8], seed: u64) -> u64 {
    let beginning = BEGINNING.wrapping_add(text.len() as u32);
    let mut state = [beginning; 3];
    if seed != 0 {
        state[0] = state[0].wrapping_add((seed >> 32) as u32);
        state[1] = state[1].wrapping_add(seed as u32);
        state = mixed(state);
    }
    let mut blocks = text.chunks_exact(12);
    for block in &mut blocks {
        for (part, bytes) in state.iter_mut().zip(block.chunks_exact(4)) {
            *part = part.wrapping_add(number(bytes));
        }
        state = mixed(state);
    }
    let rest = blocks.remainder();
    let [first, second, third] =
        [0, 4, 8].map(|at| rest.get(at..).map_or(0, |bytes| number(&bytes[..bytes.len().min(4)])));
    // The lowest byte of the last part belongs to the length.
    let [_, b, c] =
        finished([state[0].wrapping_add(first), state[1].wrapping_add(second), state[2].wrapping_add(third << 8)]);
    u64::from(b) << 32 | u64::from(c)
}

/// At most four bytes, the lowest first.
fn number(bytes: &[u8]) -> u32 {
    match <[u8; 4]>::try_from(bytes) {
        Ok(whole) => u32::from_le_bytes(whole),
        Err(_) => bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)),
    }
}

fn mixed([mut a, mut b, mut c]: [u32; 3]) -> [u32; 3] {
    let step = |target: &mut u32, by: &mut u32, other: u32, turn: u32| {
        *target = target.wrapping_sub(*by) ^ by.rotate_left(turn);
        *by = by.wrapping_add(other);
    };
    step(&mut a, &mut c, b, 4);
    step(&mut b, &mut a, c, 6);
    step(&mut c, &mut b, a, 8);
    step(&mut a, &mut c, b, 16);
    step(&mut b, &mut a, c, 19);
    step(&mut c, &mut b, a, 4);
    [a, b, c]
}

fn finished([mut a, mut b, mut c]: [u32; 3]) -> [u32; 3] {
    let step = |target: &mut u32, by: u32, turn: u32| *target = (*target ^ by).wrapping_sub(by.rotate_left(turn));
    step(&mut c, b, 14);
    step(&mut a, c, 11);
    step(&mut b, a, 25);
    step(&mut c, b, 16);
    step(&mut a, c, 4);
    step(&mut b, a, 14);
    step(&mut c, b, 24);
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use super::hash;

    /// As PostgreSQL 15 answers `hashtextextended(text, seed)`.
    #[test]
    fn texts_have_postgresqls_hashes() {
        for (text, seed, expected) in [
            ("", 0_i64, -6_939_563_903_564_495_251_i64),
            ("", 7, 2_755_504_096_093_790_112),
            ("", -81_985_529_216_486_896, -4_360_243_155_399_339_951),
            ("a", 0, 3_591_986_179_850_072_241),
            ("ab", 0, 2_833_316_173_711_343_549),
            ("abc", 0, -6_747_756_470_228_489_321),
            ("abcd", 0, -1_038_429_303_365_892_052),
            ("abcde", 7, -2_496_737_214_044_990_496),
            ("abcde", -81_985_529_216_486_896, -4_388_049_415_804_154_653),
            ("abcdefg", 0, -6_158_032_784_613_548_338),
            ("abcdefgh", 0, -8_882_191_227_074_733_005),
            ("abcdefghi", 0, -3_278_210_106_038_014_113),
            ("abcdefghijk", 0, 3_112_909_444_737_856_467),
            ("abcdefghijkl", 0, -7_556_637_188_122_330_412),
            ("abcdefghijklm", -81_985_529_216_486_896, -784_401_870_887_573_373),
            ("Grüße 🙂, twenty-six bytes and more", 0, 5_952_187_166_638_285_888),
        ] {
            assert_eq!(hash(text.as_bytes(), seed as u64) as i64, expected, "{text:?} {seed}");
        }
    }
}
