INSERT INTO irt_abilities (run_id, user_id, theta, se, n_responses)
SELECT run_id, user_id, theta, se, n_responses
FROM incoming
