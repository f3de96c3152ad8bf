//! Questions about employees and the orders that they took.

use super::{Intent, intent};

pub(super) const INTENTS: &[Intent] = &[
    intent(
        "employee-count",
        "SELECT COUNT(*) FROM employees WHERE {employee_filter}",
        &[
            "how many <employees> {employee_filter} (are there|do we have)",
            "count [all|the] <employees> {employee_filter}",
            "<what is> the number of <employees> {employee_filter}",
            "what number of <employees> {employee_filter} do we have",
        ],
    ),
    intent(
        "employee-list",
        "SELECT {employee_fields} FROM employees WHERE {employee_filter}",
        &[
            "<list> the {employee_fields} of [all|the] <employees> {employee_filter}",
            "<what are> the {employee_fields} of [all|the] <employees> {employee_filter}",
            "I need the {employee_fields} of [all|the] <employees> {employee_filter}",
            "for [all|the] <employees> {employee_filter}, what are the {employee_fields}",
        ],
    ),
    intent(
        "employee-field",
        "SELECT employees.{employee_field} FROM employees WHERE employees.name = '{employee}'",
        &[
            "<what is> the {employee_field} of [our] employee {employee}",
            "which {employee_field} (is stored|do we have) for [our] employee {employee}",
            "for [our] employee {employee}, what is the {employee_field}",
            "look up the {employee_field} of [our] employee {employee}",
        ],
    ),
    intent(
        "employee-salary-statistic",
        "SELECT ROUND({average}(employees.salary), 2) FROM employees WHERE {employee_filter}",
        &[
            "<what is> the {average} (salary|pay) of <employees> {employee_filter}",
            "how high is the {average} (salary|pay) of <employees> {employee_filter}",
            "among the <employees> {employee_filter}, what is the {average} (salary|pay)",
            "what {average} (salary|pay) do <employees> {employee_filter} get",
        ],
    ),
    intent(
        "employee-role-groups",
        "SELECT employees.role, ROUND({average}(employees.salary), 2) FROM employees WHERE {hired} GROUP BY employees.role",
        &[
            "<what is> the {average} (salary|pay) <per> role of <employees> {hired}",
            "<per> role, what is the {average} (salary|pay) of <employees> {hired}",
            "show the {average} (salary|pay) of <employees> {hired} <per> role",
        ],
    ),
    intent(
        "employee-role-having",
        "SELECT employees.role FROM employees WHERE {hired} GROUP BY employees.role HAVING {average}(employees.salary) {more} {salary}",
        &[
            "in which roles do <employees> {hired} have {more} {salary} [dollars] as the {average} (salary|pay)",
            "<list> the roles where the {average} (salary|pay) of <employees> {hired} is {more} {salary} [dollars]",
            "for which roles is the {average} (salary|pay) of <employees> {hired} {more} {salary} [dollars]",
        ],
    ),
    intent(
        "employee-above-average",
        "SELECT employees.name FROM employees WHERE {employee_filter} AND employees.salary {earn} (SELECT AVG(employees.salary) FROM employees)",
        &[
            "which <employees> {employee_filter} earn {earn} than [the] average",
            "<list> the <employees> {employee_filter} whose (salary|pay) is {earn} than average",
            "who among the <employees> {employee_filter} earns {earn} than [the] average",
            "which <employees> {employee_filter} get {earn} than the average (salary|pay)",
        ],
    ),
    intent(
        "employee-than-employee",
        "SELECT employees.name FROM employees WHERE {hired} AND employees.salary {earn} (SELECT employees.salary FROM employees WHERE employees.name = '{employee}')",
        &[
            "which <employees> {hired} earn {earn} than {employee}",
            "<list> the <employees> {hired} who earn {earn} than {employee}",
            "who among the <employees> {hired} earns {earn} than {employee}",
            "which <employees> {hired} get {earn} (salary|pay) than {employee}",
        ],
    ),
    intent(
        "employee-top",
        "SELECT employees.name, employees.salary FROM employees WHERE {hired} ORDER BY employees.salary {best_paid}, employees.name LIMIT {top}",
        &[
            "who are the {top} {best_paid} <employees> {hired}, and what do they earn",
            "<list> names and salaries of the {top} {best_paid} <employees> {hired}",
            "which {top} <employees> {hired} are the {best_paid}, with salaries",
            "show the {top} {best_paid} <employees> {hired} with [their] salaries",
        ],
    ),
    intent(
        "employee-order-count",
        "SELECT COUNT(*) FROM orders JOIN orders.employees WHERE employees.name = '{clerk}' AND {order_filter}",
        &[
            "how many <orders> {order_filter} did [our] employee {clerk} handle",
            "count the <orders> {order_filter} that [our] employee {clerk} handled",
            "<what is> the number of <orders> {order_filter} handled by [our] employee {clerk}",
        ],
    ),
    intent(
        "employee-order-top",
        "SELECT employees.name, COUNT(*) FROM orders JOIN orders.employees WHERE {order_filter} GROUP BY employees.name ORDER BY COUNT(*) DESC, employees.name LIMIT {top}",
        &[
            "which {top} <employees> handled the most <orders> {order_filter}, and how many",
            "<list> the top {top} <employees> by number of <orders> {order_filter}, with counts",
            "who are the top {top} <employees> for <orders> {order_filter}, with counts",
        ],
    ),
    intent(
        "employee-order-having",
        "SELECT employees.name FROM orders JOIN orders.employees WHERE {order_filter} GROUP BY employees.name HAVING COUNT(*) {as_many} {few}",
        &[
            "which <employees> handled {as_many} {few} <orders> {order_filter}",
            "<list> the <employees> who handled {as_many} {few} <orders> {order_filter}",
            "who [of the staff] handled {as_many} {few} <orders> {order_filter}",
        ],
    ),
    intent(
        "employee-without-orders",
        "SELECT employees.name FROM employees WHERE employees.role = '{role}' AND NOT EXISTS (SELECT 1 FROM orders WHERE orders.employee_id = employees.id AND {order_filter})",
        &[
            "which <employees> (working|who work) as {role} handled no <orders> {order_filter}",
            "<list> the <employees> who work as {role} and handled no <orders> {order_filter}",
            "who works as {role} and handled no <orders> {order_filter}",
        ],
    ),
    intent(
        "employee-of-customer",
        "SELECT DISTINCT employees.name FROM orders JOIN orders.customers JOIN orders.employees WHERE customers.name = '{buyer}'",
        &[
            "which <employees> handled [the] <orders> of {buyer}",
            "<list> the [different] <employees> who handled <orders> (of|from) {buyer}",
            "who [of the staff] handled [the] <orders> (of|from) {buyer}",
            "by which <employees> were the <orders> of {buyer} handled",
        ],
    ),
];
