// Successive shortest paths of a transport problem on a sparse graph: see assignment/flow.py, which says the same in
// Python. Masses are whole numbers, so that sums of them are exact.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

typedef std::int64_t whole;

extern "C" whole geomsink_flow(
    whole n, whole m, const whole *begin, const whole *column, const whole *row, const double *cost, double *f,
    double *g, double *supply, double *demand, double *flow, const double lift, const whole most) {
    typedef std::pair<double, whole> Entry;
    struct Edge {
        double cost;
        whole column;
    };
    struct Column {
        double potential, distance;
    };
    // What is read together is kept together.
    std::vector<Edge> edges(begin[n]);
    std::vector<Column> at(m);
    for (whole j = 0; j < m; j++) at[j] = {g[j], INFINITY};
    // The edges with flow of each column, in no order: the first, and the next of each.
    std::vector<whole> first(m, -1), next(begin[n], -1);
    for (whole e = 0; e < begin[n]; e++) {
        edges[e] = {cost[e], column[e]};
        if (flow[e] > 0.0) {
            next[e] = first[column[e]];
            first[column[e]] = e;
        }
    }
    std::vector<char> row_seen(n, 0);
    std::vector<whole> from(m, -1);  // the edge by which a column was reached
    std::vector<whole> back(n, -1);  // the edge, with flow, by which a row was reached from its column
    std::vector<double> row_distance(n, 0.0);
    std::vector<whole> touched, settled, rows;
    std::vector<Entry> heap;
    const std::greater<Entry> later;
    whole stuck = 0;
    for (whole source = 0; source < n; source++) {
        while (supply[source] > 0.0) {
            heap.clear();
            touched.clear();
            settled.clear();
            rows.clear();
            rows.push_back(source);
            row_seen[source] = 1;
            row_distance[source] = 0.0;
            back[source] = -1;
            whole sink = -1;
            size_t scan = 0;
            double reached = 0.0, enough = INFINITY;  // a column that lacks some is no farther
            while (sink < 0) {
                for (; sink < 0 && scan < rows.size(); scan++) {
                    const whole i = rows[scan];
                    const double start = row_distance[i], own = f[i];
                    for (whole e = begin[i]; e < begin[i + 1]; e++) {
                        const whole j = edges[e].column;
                        const double slack = edges[e].cost - own - at[j].potential;
                        const double d = start + (slack > 0.0 ? slack : 0.0);
                        if (d < at[j].distance && d < enough) {  // so it is not settled: distances do not fall
                            if (at[j].distance == INFINITY) touched.push_back(j);
                            at[j].distance = d;
                            from[j] = e;
                            if (demand[j] > 0.0) {
                                enough = d;
                                if (d <= reached) {
                                    sink = j;
                                    break;
                                }
                            }
                            heap.push_back(Entry(d, j));
                            std::push_heap(heap.begin(), heap.end(), later);
                        }
                    }
                }
                if (sink >= 0) {
                    settled.push_back(sink);
                    break;
                }
                whole j = -1;
                while (j < 0 && (whole)settled.size() < most && !heap.empty()) {
                    if (heap.front().first == at[heap.front().second].distance) j = heap.front().second;
                    std::pop_heap(heap.begin(), heap.end(), later);
                    heap.pop_back();
                }
                if (j < 0) break;
                settled.push_back(j);
                reached = at[j].distance;
                if (demand[j] > 0.0) {
                    sink = j;
                    break;
                }
                for (whole e = first[j]; e >= 0; e = next[e]) {
                    const whole i = row[e];
                    if (!row_seen[i]) {
                        row_seen[i] = 1;
                        row_distance[i] = reached;
                        back[i] = e;
                        rows.push_back(i);
                    }
                }
            }
            const double total = sink < 0 && (whole)settled.size() < most ? reached + lift : reached;
            for (whole i : rows) {
                f[i] += total - row_distance[i];
                row_seen[i] = 0;
            }
            for (whole j : settled) at[j].potential -= total - at[j].distance;
            for (whole j : touched) at[j].distance = INFINITY;
            if (sink < 0) {
                stuck++;
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
                if (flow[from[j]] == 0.0) {
                    next[from[j]] = first[j];
                    first[j] = from[j];
                }
                flow[from[j]] += amount;
                const whole e = back[row[from[j]]];
                if (e < 0) break;
                flow[e] -= amount;
                j = column[e];
                if (flow[e] == 0.0) {
                    whole *link = &first[j];
                    while (*link != e) link = &next[*link];
                    *link = next[e];
                }
            }
            supply[source] -= amount;
            demand[sink] -= amount;
        }
    }
    for (whole j = 0; j < m; j++) g[j] = at[j].potential;
    return stuck;
}
