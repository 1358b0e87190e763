//! Who can read an encrypted backup, and who cannot.

use futures::executor::block_on;
use tidelock_actors::ports::Archive;

use super::super::Kind;
use super::{World, config};
use crate::Config;

const SECRET: &str = "the tide is locked";

impl World {
    /// From now on with these settings of `[backup]`.
    fn with_keys(&self, change: impl FnOnce(&mut crate::config::BackupSettings)) {
        let mut config = config(self.folder.path());
        change(&mut config.backup);
        block_on(self.tidelock.reconfigure(config)).unwrap();
    }
}

#[test]
fn what_is_encrypted_with_a_passphrase_is_read_with_it_alone() {
    let world = World::new();
    world.with_keys(|backup| {
        backup.encrypt = "passphrase".to_owned();
        backup.passphrase = Some("long enough".into());
    });
    world.save(0..20, SECRET);
    let first = world.backup();
    world.save(10..30, SECRET);
    let second = world.backup();
    assert!(second.encrypted && second.kind == Kind::Log);
    assert!(world.named(&second.id).unwrap() == world.now());
    assert!(block_on(world.tidelock.backups().verify(Some(second.id.clone()))).unwrap().healthy);
    for passphrase in [None, Some("another one".into())] {
        world.with_keys(|backup| backup.passphrase = passphrase);
        let error = world.named(&second.id).unwrap_err();
        assert!(error.to_string().contains("is encrypted (") && error.exit_code() == 2, "{error}");
    }
    for view in [first, second] {
        let bytes = std::fs::read(&view.path).unwrap();
        assert!(!bytes.windows(4).any(|window| window == [0x28, 0xb5, 0x2f, 0xfd]), "no zstd frame lies open");
    }
}

#[test]
fn what_is_encrypted_for_a_recipient_is_read_by_the_holder_of_the_key_and_tried_as_far_as_can_be() {
    let world = World::new();
    let key = age::x25519::Identity::generate();
    world.with_keys(|backup| backup.encrypt = key.to_public().to_string());
    world.save(0..20, SECRET);
    let view = world.backup();
    assert!(world.named(&view.id).is_err(), "this device cannot read it");
    let archive = world.tidelock.backups().archive();
    block_on(archive.drill()).unwrap();
    assert!(!world.backups()[0].verified, "bytes alone are no proof");
    let file = world.folder.path().join("key.txt");
    use age::secrecy::ExposeSecret;
    std::fs::write(&file, key.to_string().expose_secret()).unwrap();
    world.with_keys(|backup| backup.identity = file);
    assert!(world.named(&view.id).unwrap() == world.now());
    block_on(archive.drill()).unwrap();
    assert!(world.backups()[0].verified);
}

#[test]
fn a_recipient_that_is_none_is_refused() {
    let error = Config::from_toml("[backup]\nencrypt = \"age1nobody\"").unwrap_err().to_string();
    assert!(error.contains("backup.encrypt = \"age1nobody\""), "{error}");
    let error = Config::from_toml("[backup]\nencrypt = \"passphrase\"").unwrap_err().to_string();
    assert!(error.contains("a passphrase in backup.passphrase beside it"), "{error}");
}
