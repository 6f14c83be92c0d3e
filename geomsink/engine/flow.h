// Successive shortest paths of a transport problem on a sparse graph: see assignment/flow.py, which says the same in
// Python. Masses are whole numbers, so that sums of them are exact.

#include <cmath>
#include <cstdint>
#include <queue>
#include <utility>
#include <vector>

typedef std::int64_t whole;

extern "C" whole geomsink_flow(
    whole n, whole m, const whole *begin, const whole *column, const whole *row, const double *cost,
    const whole *column_begin, const whole *column_edge, double *f, double *g, double *supply, double *demand,
    double *flow, const double lift, const whole most) {
    typedef std::pair<double, whole> Entry;
    std::vector<double> distance(m, INFINITY);
    std::vector<char> settled(m, 0), row_seen(n, 0);
    std::vector<whole> from(m, -1);  // the edge by which a column was reached
    std::vector<whole> back(n, -1);  // the edge, with flow, by which a row was reached from its column
    std::vector<double> row_distance(n, 0.0);
    std::vector<whole> columns, rows;
    std::vector<Entry> storage;
    whole stuck = 0;
    for (whole source = 0; source < n; source++) {
        while (supply[source] > 0.0) {
            std::priority_queue<Entry, std::vector<Entry>, std::greater<Entry>> heap(std::greater<Entry>(), std::move(storage));
            columns.clear();
            rows.clear();
            rows.push_back(source);
            row_seen[source] = 1;
            row_distance[source] = 0.0;
            back[source] = -1;
            whole sink = -1, scan = 0, looked = 0;
            double reached = 0.0;
            while (sink < 0) {
                for (; sink < 0 && scan < (whole)rows.size(); scan++) {
                    const whole i = rows[scan];
                    const double start = row_distance[i];
                    for (whole e = begin[i]; e < begin[i + 1]; e++) {
                        const whole j = column[e];
                        if (settled[j]) continue;
                        const double slack = cost[e] - f[i] - g[j];
                        const double d = start + (slack > 0.0 ? slack : 0.0);
                        if (d < distance[j]) {
                            if (distance[j] == INFINITY) columns.push_back(j);
                            distance[j] = d;
                            from[j] = e;
                            if (d <= reached && demand[j] > 0.0) {
                                settled[j] = 1;
                                sink = j;
                                break;
                            }
                            heap.push(Entry(d, j));
                        }
                    }
                }
                if (sink >= 0) break;
                whole j = -1;
                while (looked < most && !heap.empty()) {
                    const Entry top = heap.top();
                    heap.pop();
                    if (!settled[top.second] && top.first == distance[top.second]) {
                        j = top.second;
                        break;
                    }
                }
                if (j < 0) break;
                settled[j] = 1;
                looked++;
                reached = distance[j];
                if (demand[j] > 0.0) {
                    sink = j;
                    break;
                }
                for (whole k = column_begin[j]; k < column_begin[j + 1]; k++) {
                    const whole e = column_edge[k], i = row[e];
                    if (flow[e] > 0.0 && !row_seen[i]) {
                        row_seen[i] = 1;
                        row_distance[i] = reached;
                        back[i] = e;
                        rows.push_back(i);
                    }
                }
            }
            const double total = sink < 0 && looked < most ? reached + lift : reached;
            for (whole i : rows) {
                f[i] += total - row_distance[i];
                row_seen[i] = 0;
            }
            for (whole j : columns) {
                if (settled[j]) g[j] -= total - distance[j];
                settled[j] = 0;
                distance[j] = INFINITY;
            }
            if (sink < 0) {
                stuck++;
                while (!heap.empty()) heap.pop();
                break;
            }
            double amount = demand[sink];
            for (whole j = sink;;) {
                const whole e = back[row[from[j]]];
                if (e < 0) break;
                if (flow[e] < amount) amount = flow[e];
                j = column[e];
            }
            if (supply[source] < amount) amount = supply[source];
            for (whole j = sink;;) {
                flow[from[j]] += amount;
                const whole e = back[row[from[j]]];
                if (e < 0) break;
                flow[e] -= amount;
                j = column[e];
            }
            supply[source] -= amount;
            demand[sink] -= amount;
        }
    }
    return stuck;
}
