//! The ten lines of the README.

use tidelock::{Config, Document, Tidelock, blocking};

#[allow(clippy::print_stdout, reason = "an example")]
fn main() -> Result<(), tidelock::Error> {
    let config = Config::from_toml(
        r#"
        [remote]
        url = "https://YOUR-PROJECT.supabase.co"
        anon_key = "YOUR-PUBLISHABLE-KEY"
        [collections.runs]
        table = "generations"
    "#,
    )?;
    let tidelock = Tidelock::open(config)?; // returns before the network is touched
    blocking(tidelock.save("runs", "5ea51de0-0000-4000-8000-000000000001", Document::parse(r#"{"status":"done"}"#)?))?;
    println!("{} operations wait to be sent", tidelock.status().pending);
    Ok(())
}
