//! Tokens of one's own making, to test what a server does with expired and strange ones.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

/// A signed JSON Web Token (RFC 7519, HS256) with these claims.
pub(crate) fn sign(claims: &Value, secret: &str) -> String {
    let encode = |value: &str| URL_SAFE_NO_PAD.encode(value);
    let signed = format!("{}.{}", encode(r#"{"alg":"HS256","typ":"JWT"}"#), encode(&claims.to_string()));
    // HMAC takes keys of every length, so this never fails; without a signature the server would refuse the token.
    let signature = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map(|mac| URL_SAFE_NO_PAD.encode(mac.chain_update(&signed).finalize().into_bytes()))
        .unwrap_or_default();
    format!("{signed}.{signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_carries_its_claims_and_a_signature() {
        let token = sign(&serde_json::json!({"sub": "x"}), "secret");
        let parts: Vec<_> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[1]).unwrap(), br#"{"sub":"x"}"#);
        assert_eq!(URL_SAFE_NO_PAD.decode(parts[2]).unwrap().len(), 32);
    }
}
