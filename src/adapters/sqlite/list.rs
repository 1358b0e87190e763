//! Lists of records by filter and order, page by page: the question becomes SQL, every value is bound.

use rusqlite::types::{ToSql, Value as SqlValue, ValueRef};
use rusqlite::{Connection, params_from_iter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidelock_actors::document::Document;
use tidelock_actors::limits::LIST_ROWS;

use super::faults::Failure;
use super::views::{may_be_a_column, path};

/// Which records to list, in which order, how many, and after which.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListQuery {
    /// The collection.
    pub collection: String,
    /// What has to hold of a record; all of it.
    pub filter: Vec<Condition>,
    /// Fields, each with whether it falls; the key decides ties. None means by key.
    pub order: Vec<(String, bool)>,
    /// The most records; 0 means as many as one list may return.
    pub limit: usize,
    /// Where the last page ended: its `next`.
    pub after: Option<String>,
}

/// A condition on a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// The field.
    pub field: String,
    /// How it compares.
    pub operator: Operator,
    /// With what; an array for `in`, nothing for `is null`.
    #[serde(default)]
    pub value: Value,
}

/// How a field compares with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// The same; null is the same as a missing field.
    #[serde(rename = "=")]
    Equal,
    /// Something else, also where the field is missing.
    #[serde(rename = "!=")]
    NotEqual,
    /// Less.
    #[serde(rename = "<")]
    Less,
    /// Less or the same.
    #[serde(rename = "<=")]
    LessOrEqual,
    /// More.
    #[serde(rename = ">")]
    Greater,
    /// More or the same.
    #[serde(rename = ">=")]
    GreaterOrEqual,
    /// SQL's LIKE: `%` stands for any text, `_` for one character, `\` takes their meaning away.
    #[serde(rename = "like")]
    Like,
    /// One of an array's values.
    #[serde(rename = "in")]
    In,
    /// Null or missing.
    #[serde(rename = "is null")]
    IsNull,
    /// There and not null.
    #[serde(rename = "is not null")]
    IsNotNull,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listed {
    /// Keys and documents, in order.
    pub rows: Vec<(String, Document)>,
    /// Give this as `after` for the next page; absent on the last one.
    pub next: Option<String>,
}

/// SQL in the making, with the values that are bound to it.
#[derive(Default)]
struct Question {
    conditions: String,
    values: Vec<SqlValue>,
}

impl Question {
    /// Binds a value and gives its name in the SQL.
    fn bind(&mut self, value: SqlValue) -> String {
        self.values.push(value);
        format!("?{}", self.values.len())
    }

    fn field(&mut self, name: &str) -> Result<String, Failure> {
        if !may_be_a_column(name) {
            return Err(Failure::invalid(format!(
                "{name:?} cannot be filtered or ordered by: a field name is not empty and has no quotes, \
                 backslashes or control characters"
            )));
        }
        let path = self.bind(SqlValue::Text(path(name)));
        Ok(format!("(document ->> {path})"))
    }

    fn require(&mut self, condition: &Condition) -> Result<(), Failure> {
        let field = self.field(&condition.field)?;
        let comparison = match condition.operator {
            Operator::Equal => "IS",
            Operator::NotEqual => "IS NOT",
            Operator::Less => "<",
            Operator::LessOrEqual => "<=",
            Operator::Greater => ">",
            Operator::GreaterOrEqual => ">=",
            Operator::Like => "LIKE",
            Operator::In => "IN",
            Operator::IsNull => "IS NULL",
            Operator::IsNotNull => "IS NOT NULL",
        };
        let right = match (condition.operator, &condition.value) {
            (Operator::IsNull | Operator::IsNotNull, _) => String::new(),
            (Operator::In, value @ Value::Array(_)) => {
                let list = self.bind(SqlValue::Text(value.to_string()));
                format!("(SELECT value FROM json_each({list}))")
            }
            (Operator::In, other) => {
                let field = &condition.field;
                return Err(Failure::invalid(format!("{field:?} in {other}: an array of values is needed")));
            }
            (Operator::Like, value) => format!("{} ESCAPE '\\'", self.bind(scalar(value)?)),
            (_, value) => self.bind(scalar(value)?),
        };
        self.conditions.push_str(&format!(" AND {field} {comparison} {right}"));
        Ok(())
    }

    /// What comes after the last row of the page before: greater in the first place where it differs.
    /// SQLite sorts NULL before everything else.
    fn go_on_after(&mut self, order: &[(String, bool)], token: &str) -> Result<(), Failure> {
        let values = parse_token(order, token)?;
        let mut alternatives = Vec::new();
        let mut same_so_far = String::new();
        for ((field, falls), value) in order.iter().zip(&values) {
            let field = self.field(field)?;
            let bound = self.bind(value.clone());
            let later = match (value, falls) {
                (SqlValue::Null, false) => format!("{field} IS NOT NULL"),
                (SqlValue::Null, true) => "0".to_owned(),
                (_, false) => format!("{field} > {bound}"),
                (_, true) => format!("({field} < {bound} OR {field} IS NULL)"),
            };
            alternatives.push(format!("({same_so_far}{later})"));
            same_so_far.push_str(&format!("{field} IS {bound} AND "));
        }
        let key = values.last().cloned().unwrap_or(SqlValue::Null);
        let key = self.bind(key);
        alternatives.push(format!("({same_so_far}key > {key})"));
        self.conditions.push_str(&format!(" AND ({})", alternatives.join(" OR ")));
        Ok(())
    }
}

/// A value that a field can be compared with.
pub(super) fn scalar(value: &Value) -> Result<SqlValue, Failure> {
    Ok(match value {
        Value::Null => SqlValue::Null,
        Value::Bool(is) => SqlValue::Integer(i64::from(*is)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => SqlValue::Integer(whole),
            (None, Some(real)) => SqlValue::Real(real),
            (None, None) => return Err(Failure::invalid(format!("{number} is too large to compare with"))),
        },
        Value::String(text) => SqlValue::Text(text.clone()),
        // A field that holds an object or array compares as its JSON text.
        Value::Array(_) | Value::Object(_) => SqlValue::Text(value.to_string()),
    })
}

/// A page's end: the last row's order values and its key, as JSON.
fn token(values: &[SqlValue]) -> String {
    let json = values.iter().map(|value| match value {
        SqlValue::Null | SqlValue::Blob(_) => Value::Null,
        SqlValue::Integer(whole) => Value::from(*whole),
        SqlValue::Real(real) => Value::from(*real),
        SqlValue::Text(text) => Value::from(text.as_str()),
    });
    Value::Array(json.collect()).to_string()
}

fn parse_token(order: &[(String, bool)], token: &str) -> Result<Vec<SqlValue>, Failure> {
    let values: Option<Vec<Value>> = serde_json::from_str(token).ok();
    let fits = |values: &Vec<Value>| values.len() == order.len() + 1 && values.last().is_some_and(Value::is_string);
    let values = values.filter(fits).ok_or_else(|| {
        Failure::invalid(format!("{token:?} is not where a page of this list ended; give the `next` of its last page"))
    })?;
    values.iter().map(scalar).collect()
}

/// Runs the query.
pub(super) fn list(connection: &Connection, query: &ListQuery) -> Result<Listed, Failure> {
    let limit = if query.limit == 0 { LIST_ROWS } else { query.limit.min(LIST_ROWS) };
    let mut question = Question::default();
    let collection = question.bind(SqlValue::Text(query.collection.clone()));
    for condition in &query.filter {
        question.require(condition)?;
    }
    if let Some(token) = &query.after {
        question.go_on_after(&query.order, token)?;
    }
    let (mut columns, mut order) = (String::new(), String::new());
    for (field, falls) in &query.order {
        let field = question.field(field)?;
        columns.push_str(&format!(", {field}"));
        order.push_str(&format!("{field}{}, ", if *falls { " DESC" } else { "" }));
    }
    let one_more = question.bind(SqlValue::Integer(limit as i64 + 1));
    let sql = format!(
        "SELECT key, document{columns} FROM tl_records
         WHERE collection = {collection} AND document IS NOT NULL{} ORDER BY {order}key LIMIT {one_more}",
        question.conditions
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = statement.query(params_from_iter(question.values.iter().map(|value| value as &dyn ToSql)))?;
    let (mut rows, mut next): (Vec<(String, Document)>, _) = (Vec::new(), None);
    let mut end: Vec<SqlValue> = Vec::new();
    while let Some(row) = found.next()? {
        if rows.len() == limit {
            end.push(SqlValue::Text(rows.last().map(|(key, _)| key.clone()).unwrap_or_default()));
            next = Some(token(&end));
            break;
        }
        rows.push((row.get(0)?, Document::trusted(row.get(1)?)));
        if rows.len() == limit {
            let values = 2..2 + query.order.len();
            end = values.map(|column| row.get(column)).collect::<rusqlite::Result<_>>()?;
        }
    }
    Ok(Listed { rows, next })
}

/// A value that SQLite answered, as JSON; bytes become hexadecimal text.
pub(super) fn json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(whole) => Value::from(whole),
        ValueRef::Real(real) => Value::from(real),
        ValueRef::Text(text) => Value::from(String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => Value::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::{World, document, id, said};
    use super::*;
    use futures::executor::block_on;
    use tidelock_actors::model::Change;

    fn world() -> World {
        let mut world = World::new();
        for (key, text) in [
            ("a", r#"{"n":1,"s":"x%y","done":true}"#),
            ("b", r#"{"n":2,"s":"xzy","done":false}"#),
            ("c", r#"{"n":2.5,"s":null}"#),
            ("d", r#"{"n":"2","s":"Äß"}"#),
            ("e", r#"{"n":null,"tags":["t"]}"#),
            ("f", r#"{"n":9007199254740993}"#),
        ] {
            world.save(&format!("notes/{key}"), text);
        }
        world.save("tasks/other", r#"{"n":1}"#);
        world.save("notes/deleted", r#"{"n":1}"#);
        world.delete("notes/deleted");
        world
    }

    fn keys(listed: &Listed) -> String {
        listed.rows.iter().map(|(key, _)| key.as_str()).collect()
    }

    fn query(filter: Vec<Condition>, order: &[(&str, bool)]) -> ListQuery {
        let order = order.iter().map(|(field, falls)| ((*field).to_owned(), *falls)).collect();
        ListQuery { collection: "notes".to_owned(), filter, order, ..ListQuery::default() }
    }

    /// A condition as the command line and the local API write it.
    fn condition(text: &str) -> Condition {
        serde_json::from_str(text).unwrap()
    }

    #[track_caller]
    fn check(world: &World, condition_text: &str, expected: &str) {
        let listed = block_on(world.reads.list(query(vec![condition(condition_text)], &[]))).unwrap();
        assert_eq!(keys(&listed), expected, "{condition_text}");
    }

    #[test]
    fn a_filter_compares_as_sql_does() {
        let world = world();
        check(&world, r#"{"field":"n","operator":"=","value":2}"#, "b");
        check(&world, r#"{"field":"n","operator":"=","value":"2"}"#, "d");
        check(&world, r#"{"field":"n","operator":"=","value":9007199254740993}"#, "f");
        check(&world, r#"{"field":"n","operator":"=","value":9007199254740992}"#, "");
        check(&world, r#"{"field":"n","operator":"!=","value":1}"#, "bcdef");
        check(&world, r#"{"field":"n","operator":"<","value":2.5}"#, "ab");
        check(&world, r#"{"field":"n","operator":"<=","value":2.5}"#, "abc");
        check(&world, r#"{"field":"n","operator":">","value":2}"#, "cdf");
        check(&world, r#"{"field":"n","operator":">=","value":2}"#, "bcdf");
        check(&world, r#"{"field":"s","operator":"like","value":"x_y"}"#, "ab");
        check(&world, r#"{"field":"s","operator":"like","value":"x\\%y"}"#, "a");
        check(&world, r#"{"field":"n","operator":"in","value":[1,"2",7]}"#, "ad");
        check(&world, r#"{"field":"n","operator":"in","value":[]}"#, "");
        check(&world, r#"{"field":"s","operator":"is null"}"#, "cef");
        check(&world, r#"{"field":"s","operator":"is not null"}"#, "abd");
        check(&world, r#"{"field":"s","operator":"=","value":null}"#, "cef");
        check(&world, r#"{"field":"done","operator":"=","value":true}"#, "a");
        check(&world, r#"{"field":"tags","operator":"=","value":["t"]}"#, "e");
        check(&world, r#"{"field":"id","operator":">","value":"d"}"#, "ef");
        check(&world, r#"{"field":"' OR 1=1 --","operator":"is not null"}"#, "");
        check(&world, r#"{"field":"s","operator":"=","value":"' OR '1'='1"}"#, "");
    }

    #[test]
    fn all_conditions_have_to_hold() {
        let world = world();
        let both = [r#"{"field":"n","operator":">=","value":1}"#, r#"{"field":"done","operator":"=","value":false}"#];
        let listed = block_on(world.reads.list(query(both.map(condition).to_vec(), &[]))).unwrap();
        assert_eq!(keys(&listed), "b");
        assert_eq!(listed.rows[0].1.as_str(), r#"{"id":"b","n":2,"s":"xzy","done":false}"#);
    }

    #[test]
    fn an_order_may_rise_and_fall_and_the_key_decides_ties() {
        let world = world();
        let order = |order: &[(&str, bool)]| keys(&block_on(world.reads.list(query(vec![], order))).unwrap());
        assert_eq!(order(&[]), "abcdef");
        assert_eq!(order(&[("n", false)]), "eabcfd", "null, numbers, text");
        assert_eq!(order(&[("n", true)]), "dfcbae");
        assert_eq!(order(&[("done", false), ("n", true)]), "dfceba");
    }

    #[test]
    fn h20_pages_of_every_size_give_every_record_once() {
        let world = world();
        for order in [&[][..], &[("n", false)], &[("n", true)], &[("done", true), ("n", false)], &[("s", true)]] {
            let whole = keys(&block_on(world.reads.list(query(vec![], order))).unwrap());
            for limit in 1..=7 {
                let (mut paged, mut after) = (String::new(), None);
                loop {
                    let page = ListQuery { limit, after, ..query(vec![], order) };
                    let listed = block_on(world.reads.list(page)).unwrap();
                    assert!(listed.rows.len() <= limit);
                    paged.push_str(&keys(&listed));
                    after = listed.next;
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(paged, whole, "{order:?} by {limit}");
            }
        }
    }

    #[test]
    fn a_wrong_question_is_told_so() {
        let world = world();
        let mut asked = query(vec![], &[("n", false)]);
        asked.after = Some("[1]".to_owned());
        assert_eq!(
            said(block_on(world.reads.list(asked))),
            r#""[1]" is not where a page of this list ended; give the `next` of its last page"#
        );
        let unknown = ListQuery { collection: "nots".to_owned(), ..ListQuery::default() };
        assert!(said(block_on(world.reads.list(unknown))).starts_with("there is no collection \"nots\""));
        let list = condition(r#"{"field":"n","operator":"in","value":1}"#);
        assert_eq!(
            said(block_on(world.reads.list(query(vec![list], &[])))),
            r#""n" in 1: an array of values is needed"#
        );
        assert!(said(block_on(world.reads.list(query(vec![], &[("\"", false)])))).contains("cannot be filtered"));
    }

    #[test]
    fn one_list_is_bounded_and_the_next_goes_on() {
        let mut world = World::new();
        let changes: Vec<_> =
            (0..LIST_ROWS).map(|n| (id(&format!("notes/{n:06}")), Change::Save(document("{}")))).collect();
        world.change(changes).unwrap();
        world.save("notes/last", "{}");
        let first = block_on(world.reads.list(query(vec![], &[]))).unwrap();
        assert_eq!(first.rows.len(), LIST_ROWS);
        let rest = block_on(world.reads.list(ListQuery { after: first.next, ..query(vec![], &[]) })).unwrap();
        assert_eq!((keys(&rest), rest.next), ("last".to_owned(), None));
    }
}
