//! Values arrive as they were sent, in the database and back.

use reqwest::Method;
use tidelock_testbed::{Project, ProjectOptions};

use crate::support::*;

const EXACT_ROW: &str = r#"{"id":"aaaaaaaa-0000-4000-8000-000000000000","title":"emoji 😀 and \"quotes\"",
    "amount":1234567890123456789012345678.0123456789,"big":9223372036854775807,"at":"2026-11-22T12:54:56.190366+00:00",
    "meta":{"big":9007199254740993,"cents":1.50,"list":[-9223372036854775808,0.1000],"text":"123","tiny":1E-20}}"#;

async fn keeps_every_digit(project: &Project) {
    let stored = post(project, "tasks", REPRESENTATION, EXACT_ROW).await;
    assert_eq!(stored.status, 201, "{stored:?}");
    let read = get(project, "tasks?select=amount,big,at,meta&id=eq.aaaaaaaa-0000-4000-8000-000000000000").await;
    let expected = concat!(
        r#"[{"amount":1234567890123456789012345678.0123456789,"big":9223372036854775807,"#,
        r#""at":"2026-11-22T12:54:56.190366+00:00","meta":{"big":9007199254740993,"cents":1.50,"#,
        r#""list":[-9223372036854775808,0.1000],"text":"123","tiny":0.00000000000000000001}}]"#
    );
    assert_eq!(sorted_members(&read.body), sorted_members(expected));
    for (path, value) in [
        ("big::text", "9223372036854775807"),
        ("amount::text", "1234567890123456789012345678.0123456789"),
        ("meta ->> 'big'", "9007199254740993"),
        ("meta ->> 'cents'", "1.50"),
        ("jsonb_typeof(meta -> 'text')", "string"),
        ("title", "emoji 😀 and \"quotes\""),
    ] {
        let stored = project.value(&format!("select {path} from tasks where id = '{A}'")).await.unwrap();
        assert_eq!(stored.as_deref(), Some(value), "{path}");
    }
}

/// jsonb orders its members by length; the comparison should not depend on that.
fn sorted_members(json: &str) -> Vec<String> {
    let mut parts: Vec<_> = compact(json).split([',', '{', '}', '[', ']']).map(str::to_owned).collect();
    parts.sort();
    parts
}

#[tokio::test]
async fn big_and_fractional_numbers_are_exact_both_ways() {
    keeps_every_digit(&tidelock_testbed::project().await.unwrap()).await;
}

#[tokio::test]
async fn an_embedded_project_is_as_exact() {
    if tidelock_testbed::is_external() {
        return eprintln!("skipped: an embedded project is not what is tested here");
    }
    let project = Project::embedded(ProjectOptions::default()).await.unwrap();
    keeps_every_digit(&project).await;
    let session = project.any_user().await.unwrap();
    let mine = request(&project, As::User(&session), Method::POST, "owned").prefer(REPRESENTATION);
    let mine = mine.body(format!(r#"{{"id":"{B}"}}"#)).send().await;
    assert_eq!(mine.rows()[0]["owner"], session.user_id.as_str());
    let refused = post(&project, "tasks", "", format!(r#"{{"id":"{B}","n":-1}}"#)).await;
    assert_eq!(refused.error(), (400, "23514".into()));
}

#[tokio::test]
async fn an_update_is_exact_too() {
    let project = tidelock_testbed::project().await.unwrap();
    post(&project, "tasks", "", format!(r#"{{"id":"{A}","n":1}}"#)).await;
    let change = r#"{"big":-9223372036854775808,"amount":0.0000000001,"meta":{"n":18446744073709551616}}"#;
    let answer = patch(&project, &format!("tasks?id=eq.{A}&select=big,amount,meta"), REPRESENTATION, change).await;
    let expected = r#"[{"big":-9223372036854775808,"amount":0.0000000001,"meta":{"n":18446744073709551616}}]"#;
    assert_eq!(compact(&answer.body), expected);
}

#[tokio::test]
async fn every_type_reads_as_postgresql_prints_it() {
    let project = tidelock_testbed::project().await.unwrap();
    project
        .sql(
            r#"insert into samples values (1, true, -32768, 9223372036854775807, 1.5, 0.1, 1.50, 12.3400000000,
                'tab	"quoted" \ 😀', 'ab', '2026-11-22', '12:00:00.5', '2026-11-22 12:54:56.190366',
                '2026-11-22 12:54:56.190366+02', '1 day 02:03:04', 'aaaaaaaa-0000-4000-8000-000000000000',
                '{"b": 1.10, "a":  [1, null]}', '{"b": 1.10, "a": [9007199254740993, null]}', '\x00ff', '10.0.0.1/8',
                '[1,5)', '{9223372036854775807,1}', '{1.50,NULL}', '{"a,b",NULL}', '{"{\"a\": 1.0}"}',
                '{"2026-11-22 12:54:56.190366+02"}'),
               (2), (3, false, 0, 0, 'NaN', 'Infinity', 'NaN', 0)"#
                .replace("(2)", &format!("(2{})", ", null".repeat(25)))
                .replace(
                    "(3, false, 0, 0, 'NaN', 'Infinity', 'NaN', 0)",
                    &format!("(3, false, 0, 0, 'NaN', 'Infinity', 'NaN', 0{})", ", null".repeat(18)),
                )
                .as_str(),
        )
        .await
        .unwrap();
    let rows = project.rows_as_json("select * from samples order by id").await.unwrap();
    assert_eq!(rows.len(), 3);
    let read = get(&project, "samples?order=id").await;
    assert_eq!(compact(&read.body), compact(&format!("[{}]", rows.join(","))));
}

#[tokio::test]
async fn every_type_can_be_written_back_as_it_was_read() {
    let project = tidelock_testbed::project().await.unwrap();
    let row = concat!(
        r#"{"id":1,"a_bool":true,"a_smallint":1,"a_bigint":9223372036854775807,"a_real":1.5,"a_double":0.1,"#,
        r#""a_numeric":1.50,"a_money":12.34,"a_text":"x","a_char":"ab","a_date":"2026-11-22","a_time":"12:00:00.5","#,
        r#""a_timestamp":"2026-11-22T12:54:56.190366","a_timestamptz":"2026-11-22T10:54:56.190366+00:00","#,
        r#""an_interval":"1 day","a_uuid":"aaaaaaaa-0000-4000-8000-000000000000","a_json":{"b":1.10},"#,
        r#""a_jsonb":"123","some_bytes":"\\x00ff","an_address":"10.0.0.1","a_range":"[1,5)","bigints":[1,2],"#,
        r#""numerics":[1.50],"texts":["a,b",null],"jsonbs":[{"a":1.0}],"times":["2026-11-22T10:54:56+00:00"]}"#
    );
    let first = post(&project, "samples", REPRESENTATION, row).await;
    assert_eq!(first.status, 201, "{first:?}");
    let second =
        post(&project, "samples", "return=representation,resolution=merge-duplicates", first.body.clone()).await;
    assert_eq!((second.status, &second.body), (200, &first.body));
    assert_eq!(project.value("select jsonb_typeof(a_jsonb) from samples").await.unwrap().as_deref(), Some("string"));
}

#[tokio::test]
async fn a_filter_compares_exactly() {
    let project = tidelock_testbed::project().await.unwrap();
    project
        .sql(&format!(
            "insert into tasks (id, big, amount, title) values ('{A}', 9007199254740993, 1.5, '1.50'),
             ('{B}', 9007199254740992, 1.25, '1.5'), ('{C}', 9223372036854775807, 2, 'null')"
        ))
        .await
        .unwrap();
    for (filter, found) in [
        ("big=eq.9007199254740993", vec![A]),
        ("big=gt.9007199254740992", vec![A, C]),
        ("big=in.(9223372036854775807,9007199254740993)", vec![A, C]),
        ("title=eq.1.50", vec![A]),
        ("title=eq.null", vec![C]),
        ("or=(big.eq.9007199254740993,and(amount.gt.1.20,title.eq.1.5))", vec![A, B]),
    ] {
        let rows = get(&project, &format!("tasks?select=id&order=id&{filter}")).await.rows();
        assert_eq!(rows.iter().map(|row| row["id"].as_str().unwrap()).collect::<Vec<_>>(), found, "{filter}");
    }
}

#[tokio::test]
async fn json_arguments_of_functions_stay_json() {
    let project = tidelock_testbed::project().await.unwrap();
    let echoed = call(&project, "echo_jsonb", r#"{"value":{"a":9007199254740993,"b":[1.50]}}"#).await;
    assert_eq!(compact(&echoed.body), r#"{"a":9007199254740993,"b":[1.50]}"#);
    for (value, kind) in [("[1,2]", "array"), ("\"12\"", "string"), ("12", "number"), ("{}", "object")] {
        let answer = call(&project, "kind_of", format!(r#"{{"value":{value},"suffix":"!"}}"#)).await;
        assert_eq!(answer.body, format!("\"{kind}!\""), "{value}");
    }
    assert_eq!(call(&project, "kind_of", r#"{"value":"text"}"#).await.body, "\"string\"");
}
