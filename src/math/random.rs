//! One seed for a run, and a seed of its own for everything drawn in it.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

/// A seed for `purpose`, number `index`, of a run seeded with `root`.
///
/// SHA-256 of the three, so that neighbours share nothing and a new purpose changes no other's draws.
pub fn derive(root: u64, purpose: &str, index: u64) -> u64 {
    let mut hash = Sha256::new();
    hash.update(root.to_le_bytes());
    hash.update(index.to_le_bytes());
    hash.update(purpose.as_bytes());
    let digest = hash.finalize();
    u64::from_le_bytes(digest[..8].try_into().expect("a SHA-256 digest has 32 bytes"))
}

/// A random number generator for `purpose`, number `index`.
pub fn rng(root: u64, purpose: &str, index: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(derive(root, purpose, index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_and_indices_do_not_collide() {
        let seeds = [derive(0, "a", 0), derive(0, "a", 1), derive(0, "b", 0), derive(1, "a", 0)];
        let distinct: std::collections::HashSet<_> = seeds.iter().collect();
        assert_eq!(distinct.len(), seeds.len());
        assert_eq!(derive(7, "seed", 3), derive(7, "seed", 3));
    }
}
